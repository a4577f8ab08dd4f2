"""report.html of a load test or of a max rate: one file that needs no other host."""
