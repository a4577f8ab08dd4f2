"""compress: a teacher becomes a small student by distillation; FixRes fits it to its test size."""
