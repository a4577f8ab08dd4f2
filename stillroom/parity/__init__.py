"""`stillroom parity`: an artifact on this machine, or any two files, on images."""
