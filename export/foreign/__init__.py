"""Models that were not trained here: timm checkpoints and ONNX files (optional)."""
