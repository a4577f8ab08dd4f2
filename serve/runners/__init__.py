"""Runners: `open_runner` (open.py) gives a `Runner` (base.py) on the fastest backend here."""
