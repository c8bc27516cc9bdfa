"""Endless streams of batches: batch n depends on the seed and n only, so a resumed run continues the same stream."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from scripts.runtime.processes import rank, world_size

Batch = dict[str, Any]


def in_turns(classes: Sequence[int], count: int, generator: torch.Generator) -> list[int]:
    """`count` classes in turns, in random order: classes 1, 2, 3 and count 5 may give 2, 3, 1, 2, 3."""
    order = torch.randperm(len(classes), generator=generator).tolist()
    return [classes[order[number % len(classes)]] for number in range(count)]


class BatchStream(IterableDataset[Batch]):
    """Base of the training datasets: a subclass makes batch number n.

    With several loader workers each makes every k-th batch; the order stays the same. With several training processes
    each draws its share of the items of a batch, and other items than the others.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.seed, self.first = int(seed), 0
        # Kept, because loader processes do not know them.
        self.rank, self.world_size = rank(), world_size()

    def share(self, batch_size: int) -> int:
        """How many items of a batch this process draws, at least one: of 10 items four ranks draw 3, 3, 2, 2."""
        return max(1, int(batch_size) // self.world_size + (self.rank < int(batch_size) % self.world_size))

    def start_at(self, iteration: int) -> None:
        """Continue with the batch of this iteration (0-based)."""
        self.first = int(iteration)

    def attach(self, engine: Engine) -> None:
        """Be a handler of the trainer: each of its runs goes on with the batch after its last iteration."""
        engine.add_event_handler(Events.STARTED, lambda: self.start_at(engine.state.iteration))

    def generator(self, iteration: int) -> torch.Generator:
        """Random numbers of one batch."""
        # The odd constants spread neighbouring seeds, processes and iterations over the generator's states.
        place = self.seed * 0x9E3779B97F4A7C15 + self.rank * 0xD1B54A32D192ED03 + iteration
        return torch.Generator().manual_seed(place % 2**63)

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        iteration, step = self.first + (worker.id if worker else 0), worker.num_workers if worker else 1
        while True:
            yield self.batch(iteration, self.generator(iteration))
            iteration += step

    def plan(self) -> None:
        """Make what the batches are drawn from: called in the process that trains, before it starts others."""

    def batch(self, iteration: int, generator: torch.Generator) -> Batch:
        """Make batch number `iteration`."""
        raise TypeError(f"{type(self).__name__} makes no batches: use one of its subclasses.")


class StreamLoader(DataLoader[Batch]):
    """Loader of ready-made batches; workers pay where a GPU would wait for the CPU."""

    def __init__(self, dataset: BatchStream, num_workers: int = 0) -> None:
        super().__init__(dataset, batch_size=None, num_workers=num_workers)

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        # Not in a loader process, which can neither wait for other trainings nor use a GPU.
        self.dataset.plan()  # type: ignore[attr-defined]
        return super().__iter__()
