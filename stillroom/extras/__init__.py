"""Optional parts of the command line: nothing here is loaded unless it is asked for."""
