"""Throughput over the number of clients, and the law behind it (optional)."""
