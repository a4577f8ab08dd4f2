"""Another model without a pause, and back again (optional)."""
