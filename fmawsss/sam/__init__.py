"""SAM asked with points, plainly and fast; what passes; and other sources of superpixels."""
