"""Image files by their headers: what one is, what decoding it will cost, what is skipped."""
