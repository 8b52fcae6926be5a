"""The embedded default: generated images, and a CLIP and a SAM small enough to ship, trained on
such images.
"""
