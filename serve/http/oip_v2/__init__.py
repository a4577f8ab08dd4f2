"""The Open Inference Protocol, version 2: clients of KServe and Triton work (optional)."""
