"""Several processes: work is shared out, batches differ, gradients and running statistics agree."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from ignite.distributed import one_rank_first
from torch import nn
from torch.multiprocessing.spawn import spawn

from scripts.runtime.processes import (
    broadcast_buffers,
    is_first_process,
    join_processes,
    launched,
    local_device,
    on_device,
    shard,
    unwrap,
)
from scripts.runtime.stage import share_of_cases
from scripts.runtime.streams import Batch, BatchStream

CPU = torch.device("cpu")


@given(size=st.integers(1, 200), processes=st.integers(1, 64))
def test_processes_share_a_batch_evenly_and_nobody_draws_nothing(size: int, processes: int) -> None:
    streams = [BatchStream() for _ in range(processes)]
    for number, stream in enumerate(streams):
        stream.rank, stream.world_size = number, processes
    shares = [stream.share(size) for stream in streams]
    assert sum(shares) == max(size, processes) and max(shares) - min(shares) <= 1


def test_a_single_process_is_the_first_has_all_the_work_and_no_wrapping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    network = nn.Linear(2, 2)
    assert join_processes().type in ("cpu", "cuda") and not dist.is_initialized()
    assert is_first_process() and shard([1, 2, 3]) == [1, 2, 3]
    assert on_device(network, CPU) is network and unwrap(network) is network
    with one_rank_first():
        pass


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(
        ValueError, match="process 2 of this host has no GPU of its own: give torchrun --nproc_per_node 2"
    ):
        join_processes()


class Numbers(BatchStream):
    """Batches of random numbers, ten in all processes together."""

    def batch(self, iteration: int, generator: torch.Generator) -> Batch:
        return {"drawn": torch.rand(self.share(10), generator=generator)}


class Normalised(nn.Module):
    """A network with running statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.output = nn.BatchNorm1d(3), nn.Linear(3, 1)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.output(self.norm(rows))
        return result


def body(process: int, folder: str) -> None:
    """What each of two processes does, and what it saves for the test."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=process, world_size=2)
    found: dict[str, Any] = {"shares": shard(list("abcde"))}
    with one_rank_first():
        found["was_there"] = Path(folder, "written_once").exists()
        Path(folder, "written_once").touch()
    found["drawn"] = next(iter(Numbers(seed=3)))["drawn"]
    found["cases"] = share_of_cases([{"case": "only", "label_values": {"liver": 1}}])

    torch.manual_seed(process)  # the first process's weights are everybody's
    network = on_device(Normalised(), CPU)
    rows = torch.arange(12.0).reshape(4, 3)[2 * process : 2 * process + 2]
    network(rows * rows).square().mean().backward()
    found["gradient"] = unwrap(network).output.weight.grad
    found["before"] = unwrap(network).norm.running_mean.clone()
    broadcast_buffers(network)
    found["after"] = unwrap(network).norm.running_mean.clone()
    found["keys"] = list(unwrap(network).state_dict())
    torch.save(found, f"{folder}/{process}.pt")
    gc.collect()  # see tests/losses/test_supcon.py
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two processes found."""
    if not dist.is_available() or not dist.is_gloo_available():
        pytest.skip("needs the gloo backend")
    folder = tmp_path_factory.mktemp("processes")
    spawn(body, args=(str(folder),), nprocs=2)
    return [torch.load(folder / f"{process}.pt", weights_only=False) for process in range(2)]


Two = list[dict[str, Any]]


def test_two_processes_share_work_and_batches(two: Two) -> None:
    assert [found["shares"] for found in two] == [["a", "c", "e"], ["b", "d"]]
    assert [len(found["drawn"]) for found in two] == [5, 5]
    assert not set(two[0]["drawn"].tolist()) & set(two[1]["drawn"].tolist())


def test_the_first_process_goes_first(two: Two) -> None:
    assert [found["was_there"] for found in two] == [False, True]


def test_a_process_without_a_validation_case_has_one_without_organs(two: Two) -> None:
    assert two[0]["cases"] == [{"case": "only", "label_values": {"liver": 1}}]
    assert two[1]["cases"] == [{"case": "only", "label_values": {"none": 0}}]


def test_gradients_are_shared_and_running_statistics_made_those_of_the_first(two: Two) -> None:
    torch.testing.assert_close(two[0]["gradient"], two[1]["gradient"])
    assert not torch.equal(two[0]["before"], two[1]["before"])
    assert torch.equal(two[0]["before"], two[0]["after"]) and torch.equal(two[0]["after"], two[1]["after"])
    assert two[0]["keys"] == list(Normalised().state_dict()), "a checkpoint fits any number of processes"


def test_rank_and_world_size_are_those_of_torchrun_or_of_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    assert launched() == (0, 1)
    monkeypatch.setenv("SLURM_PROCID", "3")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "8")
    assert launched() == (3, 8)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert launched() == (1, 2), "torchrun, started by srun once on each machine"


@pytest.mark.parametrize(("rank", "gpus", "device"), [("1", 2, "cuda:1"), ("3", 2, "cuda:1"), ("1", 0, "cpu")])
def test_processes_of_a_machine_take_its_gpus_in_turn(
    rank: str, gpus: int, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[torch.device] = []
    monkeypatch.setenv("LOCAL_RANK", rank)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert local_device() == torch.device(device)
    assert chosen == [torch.device(device)] * bool(gpus)
