from __future__ import annotations

from pathlib import Path

import pytest

from loadtest.extras.distributed.worker import main
from tests.loadtest.stub_server import run_script, write_corpus


@pytest.mark.parametrize("address", ["5557", "host:", ":5557", "host:0", "host:port"])
def test_a_wrong_address_is_wrong_use(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([address, "--corpus", str(write_corpus(tmp_path))]) == 2
    assert f"{address!r} is not HOST:PORT; give one such as" in capsys.readouterr().err


@pytest.mark.e2e
def test_nobody_listens(tmp_path: Path) -> None:
    done = run_script(f"""
        import locust.runners
        locust.runners.CONNECT_TIMEOUT, locust.runners.CONNECT_RETRY_COUNT = 0.1, 2
        from loadtest.extras.distributed.worker import main
        print(main(["127.0.0.1:9", "--corpus", {str(write_corpus(tmp_path))!r}]))
    """)
    assert done.stdout == "1\n"
    assert "error: no master of a load test at 127.0.0.1:9; start it first" in done.stderr
