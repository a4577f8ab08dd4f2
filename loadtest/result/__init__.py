"""What was measured: summary, validity, warnings, verdict, files."""
