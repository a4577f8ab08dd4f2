"""Many trainings compared on the validation photographs: search, backbones, data, resolution."""
