"""Training by several processes: collectives, shared errors, averaged gradients (optional)."""
