"""LightningModules: what learns and what predicts."""
