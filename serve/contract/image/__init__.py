"""Headers of image files: what a file is, and what decoding it will cost."""
