"""Finished masks in the formats of other tools."""
