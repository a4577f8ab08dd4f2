"""The served model of one worker: batcher, memory, golden check, predictions."""
