"""Commands that make artifacts: export, import, mobile files, engines."""
