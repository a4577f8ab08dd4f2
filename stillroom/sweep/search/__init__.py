"""`stillroom sweep search`: the teacher's options that are best on val."""
