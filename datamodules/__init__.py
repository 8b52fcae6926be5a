"""Images, labels, seeds and superpixels on disk become batches."""
