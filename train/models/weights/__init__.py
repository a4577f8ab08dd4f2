"""Pretrained weights: where they come from, and how a file of them is read without trust.

* `file`: is_safetensors, read_weights
* `pickled_names`: pickled_names
* `pretrained`: load_pretrained, package_tensors
* `source`: check_source, package_file, without_network
* `tensors`: Found, choose_weights
"""
