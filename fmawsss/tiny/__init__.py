"""The embedded world: generated images, and a CLIP and a SAM that were trained on them."""
