"""The cases of `tests/serve/attack_cases.py` against the real processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from serve.process.launch import running_server
from serve.settings import Settings
from tests.serve.attack_cases import (
    ATTACKS,
    LONG_TIMEOUT_S,
    TIMEOUT_S,
    TOKEN,
    Attack,
    Target,
    table,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]
DOCUMENT = Path(__file__).parents[3] / "docs" / "attacks.md"


@pytest.fixture(scope="module")
def target(
    tiny_artifact: Path, tmp_path_factory: pytest.TempPathFactory, jpeg: bytes
) -> Iterator[Target]:
    folder = tmp_path_factory.mktemp("attacked")
    plain = Settings(artifact=tiny_artifact, body_timeout_s=TIMEOUT_S, header_timeout_s=TIMEOUT_S)
    guarded = Settings(artifact=tiny_artifact, token=TOKEN, body_timeout_s=LONG_TIMEOUT_S)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STILLROOM_TOKEN", TOKEN)
        with running_server(tiny_artifact, log_path=folder / "2", settings=guarded) as second:
            patch.delenv("STILLROOM_TOKEN")
            with running_server(tiny_artifact, log_path=folder / "1", settings=plain) as url:
                yield Target(url, second, jpeg, lambda: worker_pids(url))
                assert "Traceback" not in (folder / "1").read_text()


def worker_pids(url: str) -> list[int]:
    """Pids of the workers behind a URL: the youngest processes that listen on its port."""
    port = httpx.URL(url).port
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            command = (folder / "cmdline").read_bytes().split(b"\0")
            environment = (folder / "environ").read_bytes()
        except OSError:
            continue
        if b"_bentoml_impl.worker.service" in command and f":{port}".encode() in (
            environment + b" ".join(command)
        ):
            found.append(int(folder.name))
    return found


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.run.__name__)
def test_attack(target: Target, attack: Attack) -> None:
    attack.run(target)
    target.works()


def test_the_document_is_this_table() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == table()
