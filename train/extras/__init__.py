"""Optional parts of training: nothing here is loaded unless it is asked for."""
