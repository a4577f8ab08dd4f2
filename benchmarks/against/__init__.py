"""Another checkout of this project measured beside this one, in interleaved rounds."""
