"""SAM on a grid of points: encoder, decoder, thresholds, candidates; and other sources of
superpixels.
"""
