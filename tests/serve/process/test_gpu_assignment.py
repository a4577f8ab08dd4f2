from __future__ import annotations

import pytest

from serve.contract.errors import UsageError
from serve.process.gpu_assignment import keep_one_gpu, service_options
from serve.settings import settings_from_env


def test_one_worker_and_no_gpu_unless_asked() -> None:
    assert service_options({}) == {"workers": 1}
    wanted = {"STILLROOM_WORKERS": "4", "STILLROOM_GPUS": "2"}
    assert service_options(wanted) == {"workers": 4, "resources": {"gpu": 2}}


@pytest.mark.parametrize(
    "wrong", [{"STILLROOM_WORKERS": "0"}, {"STILLROOM_GPUS": "half"}, {"STILLROOM_WORKER": "2"}]
)
def test_wrong_values_are_left_to_the_start_which_refuses_them(wrong: dict[str, str]) -> None:
    assert service_options(wrong) == {"workers": 1}
    with pytest.raises(UsageError, match="STILLROOM_"):
        settings_from_env({"STILLROOM_ARTIFACT": ".", **wrong})


@pytest.mark.parametrize(
    ("visible", "kept"),
    [
        ("0,1", ["0", "1", "0", "1", "0", "1"]),
        ("GPU-a, GPU-b,GPU-c", ["GPU-a", "GPU-b", "GPU-c", "GPU-a", "GPU-b", "GPU-c"]),
        ("3", ["3"] * 6),
        ("", [""] * 6),
    ],
)
def test_workers_take_gpus_in_turns(visible: str, kept: list[str]) -> None:
    found = []
    for worker in range(1, 7):
        environ = {"CUDA_VISIBLE_DEVICES": visible}
        keep_one_gpu(environ, worker)
        found.append(environ["CUDA_VISIBLE_DEVICES"])
    assert found == kept


def test_without_the_variable_nothing_is_chosen() -> None:
    environ: dict[str, str] = {}
    keep_one_gpu(environ, 2)
    assert environ == {}
