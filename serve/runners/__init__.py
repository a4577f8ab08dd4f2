"""Runners: `open_runner` (open.py) gives a `Runner` (base.py) on the fastest backend here.

* `base`: Runner, check_images, largest_batch, model_bytes
* `onnxruntime_runner`: SessionRunner, installed_onnxruntime, open_session_runner, ...
* `open`: RunnerRow, open_runner
"""
