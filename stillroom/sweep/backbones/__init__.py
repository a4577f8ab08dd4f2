"""`stillroom sweep backbones`: architectures under one budget."""
