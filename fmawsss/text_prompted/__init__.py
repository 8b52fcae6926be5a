"""Models that segment what a phrase names: SAM 3, and Grounding DINO with SAM (METHOD 11.4)."""
