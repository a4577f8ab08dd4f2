"""The commands, by what they work on; `stillroom.cli` is their table."""
