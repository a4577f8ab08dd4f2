"""Objectives: a batch becomes one loss with named terms."""
