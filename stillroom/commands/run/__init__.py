"""Commands on a whole run: run, report, status, verify, compare."""
