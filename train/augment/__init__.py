"""Random views of a training image: crops, colours, degradations, policies, mixup.

* `auto_augment`: apply_policy
* `color_jitter`: draw_colours, recolour, recolour_batch
* `degrade`: add_noise, corrupt, erase, jpeg_round_trip
* `mixup`: Mix
* `random_view`: Box, jitter_box, may_recolour_later, random_crop_box, random_view, ...
"""
