"""Optional parts of the load test: nothing here is loaded unless it is asked for."""
