"""A bar over the queries of a scan, which are where the time goes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from tqdm import tqdm


@contextmanager
def showing_queries(predictor: nn.Module) -> Iterator[None]:
    """Show how many of the queries of each scan are answered, while the block runs.

    Args:
        predictor: a two-stage predictor, whose planner says how many queries there are; others show no bar.
    """
    planner, segmenter = getattr(predictor, "planner", None), getattr(predictor, "segmenter", None)
    if planner is None or segmenter is None:
        yield
        return
    bars: list[tqdm[Any]] = []

    def begin(module: nn.Module, inputs: Any, queries: Tensor) -> None:
        end()
        bars.append(tqdm(total=len(queries), desc="organ patches", unit="patch", leave=False, mininterval=1.0))

    def advance(module: nn.Module, inputs: Any, answers: Tensor) -> None:
        bars[-1].update(len(answers))

    def end() -> None:
        while bars:
            bars[-1].refresh()  # a fast scan would end before its bar has moved
            bars.pop().close()

    handles = [planner.register_forward_hook(begin), segmenter.register_forward_hook(advance)]
    try:
        yield
    finally:
        end()
        for handle in handles:
            handle.remove()
