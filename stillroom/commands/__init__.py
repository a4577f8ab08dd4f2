"""The commands, by what they work on; `stillroom.command_table` lists them."""
