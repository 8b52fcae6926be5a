"""Encoders beside CLIP, that were taught by images alone: what looks alike (METHOD 11.3)."""
