"""compress: a teacher becomes a small student by distillation; FixRes fits it to its test size."""

import serve.contract  # noqa: F401  # settles what holds for every process, before any library
