"""Batches of views: sampler, views by key, the data loader, caches of pixels and targets.

* `dataloader`: feed
* `pixel_cache`: MappedPixels, open_pixels, read_image, working_size
* `sampler`: BatchSampler, ViewKey, draws_per_class, draws_per_image, open_shards_of, ...
* `soft_targets`: ViewsWithTargets
* `views`: FixedViews, ImageStore, TrainingViews, View, Views, build_loader, pixels_of
"""
