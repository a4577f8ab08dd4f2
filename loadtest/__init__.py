"""Load test of an image classification service over HTTP.

Run it as its own process, `python -m loadtest URL --corpus IMAGES --out DIR`: Locust patches the
standard library for gevent, which must not meet torch, BentoML or pytest. What sends imports it
(`generator.{users,process,runner,calibration}`, `session`, `locustfile`, the master of workers);
every other module here is plain Python.

* plan        what is sent, when, to whom, and what is asked of it
* generator   Locust users that send it, and how they fared themselves
* result      samples -> summary, verdict, files
* max_rate    the largest rate that holds an objective: `python -m loadtest.promise`
* report      the page of a result
* extras      optional: several processes, watching the service, JUnit, scaling, comparing;
              the core loads them by name, through `optional`
"""

import os

os.environ["DO_NOT_TRACK"] = "1"  # before Locust: nothing but the service is called
