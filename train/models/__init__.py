"""timm backbones with their normalisation inside: build, freeze, group, save and load."""
