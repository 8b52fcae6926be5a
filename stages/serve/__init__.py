"""A server for other programs: images by HTTP, and Label Studio's protocol for ML backends."""
