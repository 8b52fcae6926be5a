"""Segmentation networks: how they are built, trained on seeds, applied, and kept in checkpoints."""
