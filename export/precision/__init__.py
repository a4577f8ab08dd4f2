"""Files of reduced precision, fp16 and int8, behind the same gate (optional)."""
