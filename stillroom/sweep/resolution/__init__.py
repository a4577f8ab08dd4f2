"""`stillroom sweep resolution`: which sizes to train and to test at.

* `charts`: draw_by_latency, draw_by_size
* `facts`: Resolution, SizePair, SizeResult, latency_key, read_resolution
* `page`: render_resolution
* `run`: ResolutionRequest, sweep_resolution
"""
