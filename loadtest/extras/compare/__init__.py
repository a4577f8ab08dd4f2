"""Two results against one another, with intervals (optional)."""
