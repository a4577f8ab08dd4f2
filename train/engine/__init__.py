"""The training engine: trainer, step, loop, schedule, averages, resumed state, world."""
