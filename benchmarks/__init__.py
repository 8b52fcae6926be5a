"""Measurements, each a command: `python -m benchmarks.shapes`."""
