"""Callbacks: files, pictures and scores."""
