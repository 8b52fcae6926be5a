"""The frozen CLIP: encoder, the vjp of its last block, text packed or behind prefixes, weights."""
