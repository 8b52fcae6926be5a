"""Corrections of people, read from the files of the tools that they were drawn with."""
