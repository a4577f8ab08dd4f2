"""report.html of a load test or of a promise: one file that needs no other host."""
