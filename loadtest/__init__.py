"""Load test of an image classification service over HTTP.

Run it as its own process, `python -m loadtest URL --corpus PHOTOS --out DIR`: Locust patches the
standard library for gevent, which must not meet torch, BentoML or pytest. What sends imports it
(`user`, `generator`, `runner`, `fleet`, `calibration`, `session`, `locustfile`); every other module
here is plain Python.
"""

import os

os.environ["DO_NOT_TRACK"] = "1"  # before Locust: nothing but the service is called
