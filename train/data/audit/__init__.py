"""What is in a dataset and what is wrong with it: each file decoded once, copies found."""
