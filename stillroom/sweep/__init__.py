"""Many trainings compared on the validation images: search, backbones, data, resolution."""
