"""What builds each stage of a run; `stillroom.run.pipeline` names these functions by text."""
