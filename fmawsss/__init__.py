"""Weakly supervised semantic segmentation with foundation models: tensors in, tensors out."""
