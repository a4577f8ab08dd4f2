"""TensorRT engines: built, keyed and cached (optional)."""
