"""What the service's processes and GPUs do under load (optional).

* `gpu_watch`: GpuWatch, watched_gpus
* `service_watch`: ServiceWatch
"""
