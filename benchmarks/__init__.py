"""Measurements against peers and of methods; each script prints its own table."""
