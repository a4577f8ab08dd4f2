"""One load by several generators: a master, its workers, their messages (optional)."""
