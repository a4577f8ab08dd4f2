"""What distillation and FixRes each bring: the same student with neither, either and both."""
