"""Batches of views: sampler, views by key, the data loader, caches of pixels and targets."""
