"""`stillroom sweep resolution`: which sizes to train and to test at."""
