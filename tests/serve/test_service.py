"""What we rest on inside BentoML. When one of these fails, read serve/service.py before bumping."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CODE = """
import asyncio, os
import httpx
from serve.service import Classifier, GuardedService
from serve.http.app import AsgiSwitch
from serve.process.drain import Leaving
from serve.http.guard import Guard
from _bentoml_sdk import Service

assert type(Classifier) is GuardedService and isinstance(Classifier, Service)
assert Classifier.config["workers"] == 1
assert Classifier.config["tracing"] == {"excluded_urls": ".*"}
assert not Classifier.apis and not Classifier.dependencies
hook = getattr(Classifier.inner, "verify_before_workers")
assert getattr(hook, "__bentoml_deployment_hook__")
app = Classifier.to_asgi()
assert isinstance(app, Leaving) and isinstance(app := app._app, Guard)
assert isinstance(app._app, AsgiSwitch)
theirs = app._app.bentoml

async def main():
    async with theirs.router.lifespan_context(theirs):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            for path in ("/readyz", "/livez", "/healthz", "/metrics", "/", "/v1/model"):
                answer = await client.get(path)
                print(path, answer.status_code, "server" in answer.headers)
            for path in ("/docs.json", "/schema.json", "/static_content/swagger-ui.css"):
                print(path, (await client.get(path)).status_code)
            print("our page:", "Drop photos" in (await client.get("/")).text)

asyncio.run(main())
"""


def test_the_guard_is_outermost_and_bentoml_still_answers_its_paths(
    tiny_artifact: Path, tmp_path: Path
) -> None:
    import os

    environment = {
        **os.environ,
        "STILLROOM_ARTIFACT": str(tiny_artifact),
        "BENTOML_HOME": str(tmp_path),
        "BENTOML_DO_NOT_TRACK": "True",
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr
    answers = [line for line in done.stdout.splitlines() if line.startswith(("/", "our"))]
    assert answers == [
        "/readyz 200 False", "/livez 200 False", "/healthz 200 False", "/metrics 200 False",
        "/ 200 False", "/v1/model 200 False", "/docs.json 404", "/schema.json 404",
        "/static_content/swagger-ui.css 404", "our page: True",
    ]  # fmt: skip
