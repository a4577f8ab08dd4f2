"""`stillroom compress --search`: which student at which test size."""
