"""The frozen CLIP: encoder, the opened last block, text encoded once where prompts begin alike,
weights.
"""
