"""What `import stillroom` gives: load, evaluate, open_run, and the values that they return."""
