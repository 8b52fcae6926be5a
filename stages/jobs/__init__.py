"""Tasks without a product of images: data sets made ready and checked."""
