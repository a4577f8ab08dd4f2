"""What the service's processes and GPUs do under load (optional)."""
