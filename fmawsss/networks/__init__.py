"""Segmentation networks: towers and networks of libraries, losses, targets, inference, checkpoints."""
