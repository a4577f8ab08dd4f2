"""Two ranks over gloo: what one process does, they do, and each image counts once."""

from __future__ import annotations

import collections
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from serve.contract.errors import StillroomError, UsageError
from tests.train.ranks_worker import COUNTS, answers, measured, smooth
from tests.train.toy import toy_model
from train.engine.trainer import METRICS, _sums_of_all, _sums_of_rank
from train.engine.world import World, current_world, shard_of_rank, use_world, world_from_env
from train.extras.distributed.parallel import synchronised_twin
from train.extras.distributed.process_group import ProcessGroup
from train.loader.sampler import BatchSampler, draws_per_class
from train.stage import Dataset

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[4]
CLOSE = {
    "rtol": 1e-3,
    "atol": 1e-4,
}  # nine steps; sums in another order, and what AdamW makes of it


def start_ranks(world: int, command: list[str]) -> list[subprocess.Popen[str]]:
    """Processes with the environment that torchrun would give them."""
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    shared = {"WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    shared |= {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": 1}
    processes = []
    for rank in range(world):
        places = {**shared, "RANK": rank, "LOCAL_RANK": rank}
        env = os.environ | {name: str(value) for name, value in places.items()}
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        processes.append(subprocess.Popen(command, env=env, cwd=ROOT, text=True, **pipes))
    return processes


@pytest.fixture(scope="module")
def two(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder of a two-rank `ranks_worker`, and what it said."""
    out = tmp_path_factory.mktemp("two")
    index = dataset.root.parent / "data" / "index.csv"
    command = [sys.executable, "-m", "tests.train.ranks_worker", str(dataset.root), str(index)]
    processes = start_ranks(2, [*command, str(out)])
    outputs = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(outputs)
    return out, json.loads((out / "said.json").read_text())


@pytest.fixture(scope="module")
def one(
    dataset: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Any, Any, nn.Module]:
    """The same training by one process."""
    out = tmp_path_factory.mktemp("one")
    return out, *smooth(dataset, out / "smooth")


def records(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "smooth" / ".all" / METRICS).read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_the_loss_curve_is_that_of_one_process_at_the_same_global_batch(one: Any, two: Any) -> None:
    assert len(records(two[0])) == 3
    for ours, theirs in zip(records(one[0]), records(two[0]), strict=True):
        assert ours.keys() == theirs.keys()
        assert theirs.pop("phase") == ours.pop("phase")
        for name, value in ours.items():
            assert theirs[name] == pytest.approx(value, rel=1e-3, abs=1e-4), name


def test_the_weights_are_those_of_one_process(one: Any, two: Any) -> None:
    out, said = two
    for name, tensor in load_file(out / "smooth-0.safetensors").items():
        torch.testing.assert_close(tensor, one[1].state_dict()[name], **CLOSE)
    assert said["kept"] == one[2].kept
    assert said["scores"] == pytest.approx(one[2].scores, rel=1e-3)


def test_the_centres_are_those_of_one_process(one: Any, two: Any) -> None:
    centres = load_file(two[0] / "centres-0.safetensors")["losses.centre.centres"]
    assert centres.abs().max() > 0
    torch.testing.assert_close(centres, one[3].state_dict()["losses.centre.centres"], **CLOSE)


def test_all_ranks_end_with_the_same_weights_and_rank_0_alone_writes(two: Any) -> None:
    _, said = two
    assert said["weights"][0] == said["weights"][1]
    assert [Path(state).name[-1] for state in said["smooth"]] == ["6", "9"]


@pytest.mark.parametrize("count", COUNTS)
def test_every_photograph_is_answered_once_and_in_its_place(two: Any, count: int) -> None:
    gathered = np.load(two[0] / f"answers-{count}.npy")
    assert gathered.shape == (count, 3)
    np.testing.assert_allclose(gathered, answers(count), rtol=1e-4, atol=1e-4)


def test_precise_batch_norm_of_two_ranks_is_that_of_one(dataset: Dataset, two: Any) -> None:
    alone = measured(dataset, 6).state_dict()
    statistics = [name for name in alone if ".running_" in name]
    assert statistics
    for rank in (0, 1):
        together = load_file(two[0] / f"norms-{rank}.safetensors")
        for name in statistics:
            torch.testing.assert_close(together[name], alone[name], rtol=1e-5, atol=1e-6)


def test_a_signal_to_one_rank_stops_all_and_they_resume_bit_for_bit(two: Any) -> None:
    out, said = two
    for step, messages in zip((2, 5), said["stopped"], strict=True):
        assert messages[0] == messages[1]
        assert f"Stopped at step {step} of 9 of all; everything is saved." in messages[0]
    digests = said["resumed"]
    assert digests[0][0] == digests[0][1] == digests[1][0] == digests[1][1]
    whole, cut = ((out / name / ".all" / METRICS).read_bytes() for name in ("whole", "cut"))
    assert whole == cut
    newest = [max((out / name / ".all").glob(".state-*")) for name in ("whole", "cut")]
    saved = [sorted(state.iterdir()) for state in newest]
    assert len(saved[0]) == 2
    assert [p.read_bytes() for p in saved[0]] == [p.read_bytes() for p in saved[1]]


def test_what_one_rank_saw_all_say(two: Any) -> None:
    message = two[1]["poisoned"][0]
    assert two[1]["poisoned"] == [message] * 2
    assert "StillroomError: Rank 1: Not finite at step 2 of all." in message
    assert "python -m train.nonfinite" in message
    assert (two[0] / "p" / "q" / "nonfinite-all-step-2").is_dir()


def test_a_batch_that_cannot_be_shared_and_synchronised_norms_on_a_cpu_are_refused(
    two: Any,
) -> None:
    for message in two[1]["uneven"]:
        assert message.startswith("UsageError: batch_size = 13")
        assert "Set batch_size=12." in message
    for message in two[1]["sync_bn"]:
        assert message.startswith("UsageError: sync_bn = true needs GPUs")


def test_ranks_that_would_start_from_different_states_are_refused(two: Any) -> None:
    for message in two[1]["other"]:
        assert message.startswith("Rank 1 sees a state of all at step 0, rank 0 40. Put the run")


@pytest.mark.parametrize("world", [2, 3, 4])
@pytest.mark.parametrize("limit", [0.0, 1.5])
def test_the_shares_of_all_ranks_are_the_batches_of_one_process(world: int, limit: float) -> None:
    targets = np.repeat([0, 1, 2], [97, 20, 8])
    order = BatchSampler(targets, 12, 3, 5, balance_limit=limit, sizes_px=(32, 48, 64))
    shares = [order.of_rank(rank, world) for rank in range(world)]
    for whole, *parts in zip(order, *shares, strict=True):
        assert {len(part) for part in parts} == {12 // world}
        assert sorted(key for part in parts for key in part) == sorted(whole)
        assert len({key.size_px for part in parts for key in part}) == 1


def test_the_classes_of_all_ranks_together_keep_to_the_limit_of_balance() -> None:
    targets, limit = np.repeat([0, 1, 2], [300, 40, 9]), 2.0
    counts: collections.Counter[int] = collections.Counter()
    for rank in range(4):
        order = BatchSampler(targets, 8, 1, 5, balance_limit=limit).of_rank(rank, 4)
        counts.update(int(targets[key.position]) for batch in order for key in batch)
    draws = draws_per_class(targets, limit)
    assert draws.max() < limit * draws.min()
    assert all(0 <= draws[label] - counts[label] <= 8 for label in range(3))  # the last, cut batch
    assert sum(counts.values()) == draws.sum() // 8 * 8


@pytest.mark.parametrize("count", range(9))
def test_shares_hold_everything_once(count: int) -> None:
    parts = []
    for rank in range(3):
        with use_world(World(rank, 3)):
            parts += shard_of_rank(range(count))
    assert sorted(parts) == list(range(count))


def test_synchronised_norms_share_the_weights_and_leave_the_model_alone() -> None:
    model = toy_model()
    twin = synchronised_twin(model)
    assert any(isinstance(module, nn.SyncBatchNorm) for module in twin.modules())
    assert not any(isinstance(module, nn.SyncBatchNorm) for module in model.modules())
    ours, theirs = dict(model.named_parameters()), dict(twin.named_parameters())
    assert ours.keys() == theirs.keys()
    assert all(theirs[name] is tensor for name, tensor in ours.items())
    buffers = dict(twin.named_buffers())
    assert all(buffers[name] is tensor for name, tensor in model.named_buffers())
    assert set(dict(model.named_modules())) <= set(dict(twin.named_modules()))
    pixels = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    torch.testing.assert_close(twin(pixels), model(pixels))


def test_running_sums_come_back_to_their_ranks() -> None:
    saved = _sums_of_all([{"loss": 1.0, "ce": 2.0}, {"loss": 3.0, "ce": 5.0}])
    assert saved == {"loss": 1.0, "ce": 2.0, "loss@1": 3.0, "ce@1": 5.0}
    with use_world(World(1, 2)):
        assert _sums_of_rank(saved) == {"loss": 3.0, "ce": 5.0}
    assert _sums_of_rank(saved) == {"loss": 2.0, "ce": 3.5}  # gone on with by one process
    assert _sums_of_rank({}) == {}


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, World()),
        ({"WORLD_SIZE": "1", "RANK": "0"}, World()),
        ({"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1"}, World(3, 4, 1)),
        ({"WORLD_SIZE": "4", "RANK": "3"}, World(3, 4, 0)),
    ],
)
def test_the_place_is_read_from_torchruns_environment(env: dict[str, str], expected: World) -> None:
    assert world_from_env({"MASTER_ADDR": "a", "MASTER_PORT": "1", **env}) == expected


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"WORLD_SIZE": "2"}, "RANK, MASTER_ADDR, MASTER_PORT is not set"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two': expected a whole number"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE is '0': expected a whole number"),
        (
            {"WORLD_SIZE": "2", "RANK": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"},
            "RANK is 2, LOCAL_RANK 0: expected 0 to 1",
        ),
    ],
)
def test_an_impossible_environment_is_refused(env: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        world_from_env(env)
    assert "--nproc" in caught.value.next_step


def test_a_broken_connection_says_what_to_do_and_other_errors_pass() -> None:
    with use_world(ProcessGroup(1, 4)):
        with pytest.raises(StillroomError, match="Rank 1 of 4 lost the others while agreeing") as c:
            _fail_with("[gloo/transport/tcp/pair.cc:547] Connection closed by peer")
        assert "Run the same command again" in c.value.next_step
        with pytest.raises(RuntimeError, match="shapes"):
            _fail_with("shapes cannot be multiplied")
    with pytest.raises(RuntimeError, match="Connection"):
        _fail_with("Connection of another kind, in a world of one")


def _fail_with(message: str) -> None:
    with current_world().peer_errors("agreeing"):
        raise RuntimeError(message)


def test_the_batch_of_all_ranks_must_divide() -> None:
    current_world().check_batch_size(7)
    with use_world(ProcessGroup(0, 4)):
        current_world().check_batch_size(8)
        with pytest.raises(UsageError, match=r"Set teacher\.batch_size=4\."):
            current_world().check_batch_size(7, "teacher.batch_size")
        with pytest.raises(UsageError, match=r"Set batch_size=4\."):
            current_world().check_batch_size(3)
    assert current_world() == World()
