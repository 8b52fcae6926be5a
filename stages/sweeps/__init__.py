"""Sweeps: what is tried next, jobs on disk, effects, plots, the summary."""
