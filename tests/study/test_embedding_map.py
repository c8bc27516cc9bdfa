"""The map of an embedding: what its silhouettes say, and one row of panels for organs, one for contrast phases."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from development.study.embed_command import save_map, summary
from development.study.embedding import Embedded, phase_silhouette, silhouette


def clusters(between_phases: float) -> Embedded:
    """Ten queries each of two organs, far apart, half of them in either phase, that far apart."""
    organs, phases = np.repeat([1, 2], 10), np.tile([0, 1], 10)
    points = np.stack([10.0 * organs, between_phases * phases], axis=1).astype(np.float32)
    points += np.random.default_rng(0).normal(0, 0.01, points.shape).astype(np.float32)
    return Embedded("AGSCL", points, organs, phases, ["liver", "left_kidney"], ["portal_venous", "non_contrast"])


def test_the_silhouette_is_near_one_where_classes_lie_apart_and_near_zero_where_they_mix() -> None:
    apart, mixed = clusters(1.0), clusters(0.0)
    assert silhouette(apart.points, apart.organs) > 0.8
    assert phase_silhouette(apart) > 0.95
    assert abs(phase_silhouette(mixed)) < 0.2, "the organs still lie apart, the phases within them do not"
    assert np.isnan(silhouette(apart.points, np.ones(20, dtype=np.int64)))


def test_phases_are_drawn_and_counted_only_where_there_are_several(tmp_path: Path) -> None:
    both = clusters(1.0)
    one_phase = replace(both, phases=np.zeros(20, dtype=np.int64), phase_names=[])
    assert len(summary(both)) == 2 and len(summary(one_phase)) == 1
    sizes = {}
    for name, run in (("both", both), ("one", one_phase)):
        save_map([run, run], tmp_path / f"{name}.png")
        sizes[name] = Image.open(tmp_path / f"{name}.png").size
    assert sizes["both"][1] == pytest.approx(2 * sizes["one"][1], abs=2)
