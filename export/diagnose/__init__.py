"""Why a candidate failed parity: one thing changed at a time (optional)."""
