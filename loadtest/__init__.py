"""Load test of an image classification service over HTTP.

Run it as its own process, `python -m loadtest URL --corpus IMAGES --out DIR`: Locust patches the
standard library for gevent, which must not meet torch, BentoML or pytest. What sends imports it
(`generator.{users,process,runner,calibration}`, `session`, `locustfile`, the master of workers);
every other module here is plain Python, and so are the public names: `load_corpus` and `LoadPlan`
say what is sent, `Slo` what must hold, `build_summary` and `Status` what came of it, and
`find_max_rate` searches the largest rate that holds.

* plan        what is sent, when, to whom, and what is asked of it
* generator   Locust users that send it, and how they fared themselves
* result      samples -> summary, verdict, files
* max_rate    the largest rate that holds an objective: `python -m loadtest.promise`
* report      the page of a result
* extras      optional: several processes, watching the service, JUnit, scaling, comparing;
              the core loads them by name, through `optional`
"""

import os
from pkgutil import resolve_name
from typing import Any

os.environ["DO_NOT_TRACK"] = "1"  # before Locust: nothing but the service is called

_PUBLIC = {
    "CorpusImage": "loadtest.plan.corpus:CorpusImage",
    "LoadPlan": "loadtest.plan.load_plan:LoadPlan",
    "MaxRate": "loadtest.max_rate.search:MaxRate",
    "Slo": "loadtest.plan.slo:Slo",
    "Status": "loadtest.result.verdict:Status",
    "Target": "loadtest.plan.target:Target",
    "build_summary": "loadtest.result.summary:build_summary",
    "find_max_rate": "loadtest.max_rate.search:find_max_rate",
    "load_corpus": "loadtest.plan.corpus:load_corpus",
    "slo_from_text": "loadtest.plan.slo:slo_from_text",
}
__all__ = [*_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return resolve_name(_PUBLIC[name])


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
