"""Predictors of several folds as one: the mean of their class scores."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn


def paths_of(path: str | Path | Sequence[str]) -> list[str]:
    """One path or several, as a list."""
    return [str(path)] if isinstance(path, str | Path) else [str(one) for one in path]


class FoldEnsemble(nn.Module):
    """As many copies of a predictor as there are files of weights; ``scripts.inference.weights`` loads them.

    Args:
        predictor: untrained predictor of one fold.
        paths: weights of the folds, one ``model.pt`` each.
        device: device that the members run on.

    forward: [batch, 1, x, y, z] in HU on the working grid -> mean class scores [batch, 1 + organs, x, y, z].

    Raises:
        ValueError: no path, or one path twice, which would give that fold two votes.
    """

    def __init__(self, predictor: nn.Module, paths: str | Sequence[str], device: torch.device | str = "cpu") -> None:
        super().__init__()
        given = paths_of(paths)
        if not given or len(set(given)) < len(given):
            raise ValueError(
                f"model_path of an ensemble is {given}; expected the model.pt of every fold, each once, such as "
                "--model_path \"['runs/fold0/model.pt','runs/fold1/model.pt']\"."
            )
        self.members = nn.ModuleList([predictor, *(copy.deepcopy(predictor) for _ in given[1:])]).to(device)

    def forward(self, volume: Tensor) -> Tensor:
        """Segment volumes."""
        total: Tensor = self.members[0](volume).float()  # a sum of halves would lose digits
        for member in list(self.members)[1:]:
            total = total + member(volume)
        return total / len(self.members)
