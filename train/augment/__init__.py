"""Random views of a training image: crops, colours, degradations, policies, mixup."""
