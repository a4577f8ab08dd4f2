"""In processes of their own: this one may have imported all of it."""

from __future__ import annotations

import subprocess
import sys

from serve.process.lean_start import FACTORY, PROXY

WORKER = """
import gc, sys
import serve.service, _bentoml_impl.server.app
found = [name for name in ("aiohttp", "pyparsing") if name in sys.modules]
print(found, gc.isenabled(), gc.get_freeze_count() > 0)
"""
BENTOML = f"import {PROXY} as proxy; print(callable(proxy.{FACTORY}), 'aiohttp' in dir(proxy))"
LATE = f"""
import gc, {PROXY} as proxy
gc.disable()
import serve.service
import {PROXY} as still
print(proxy is still, gc.isenabled())
"""


def said_by(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_worker_does_without_bentomls_proxy_and_collects_garbage() -> None:
    assert said_by(WORKER) == "[] True True"


def test_bentoml_has_what_it_does_without() -> None:
    """Else a new BentoML would make the stand-in useless, or harmful."""
    assert said_by(BENTOML) == "True True"


def test_a_proxy_that_is_there_stays_and_so_does_the_collector() -> None:
    assert said_by(LATE) == "True False"
