"""Hydra plugins of this project."""
