"""timm backbones with their normalisation inside: build, freeze, group, save and load.

* `checkpoint`: ModelCard, load_checkpoint, save_checkpoint
* `classifier`: ImageClassifier, build_model, check_size, count_flops, count_parameters
* `freeze`: FreezePolicy, HeadOnly, TrainAll
* `names`: check_model_name, model_names
* `param_groups`: build_optimizer, first_groups, layer_groups
* `weight_init`: initialise
"""
