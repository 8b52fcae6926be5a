"""What lies on disk: images, superpixels, CAMs, seeds, tensors, records of products, downloads."""
