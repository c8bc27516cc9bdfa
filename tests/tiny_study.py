"""A study of seconds: the arms of the real plan that differ in kind, on a tiny data set with tiny networks."""

from __future__ import annotations

from pathlib import Path

import yaml

TINY = """
configs: [configs/train.yaml, configs/data/abdomen.yaml]
evaluation: configs/evaluate.yaml
settings:
  spacing: [12.0, 12.0, 24.0]
  coarse_network::channels: [8, 8, 8, 8]
  query_planner::patch_size: 32
  query_planner::threshold: 0.05
  encoder::name: resnet18
  precision: float32
  coarse::stage::epoch_length: 2
  contrastive::epoch_length: 2
  contrastive::batch_size: 4
  contrastive::network::head::hidden: 16
  train::epoch_length: 2
  train::batch_size: 4
  val_interval: 1000
  validation_limit: 1
regimes:
  same: {coarse_spacing: [12.0, 12.0, 24.0], coarse::stage::patch_size: [16, 16, 8]}
labelled: [all]
seeds: [0]
arms:
  coarse_stage:
    overlays: [configs/baselines/coarse_alone.yaml]
    coarse: own
    settings: {coarse::stage::epochs: 1, coarse::stage::fold_epochs: 1}
  slice:
    title: slice baseline
    overlays: [configs/baselines/slice.yaml]
    coarse: none
    settings: {train::total_epochs: 1}
  supcon:
    overlays: [configs/baselines/fine_tuned.yaml]
    settings: {contrastive::epochs: 1, train::total_epochs: 1}
  supcon_mean:
    members: [supcon]
    settings: {network_def::coarse_weight: 0.5}
  mean:
    overlays: [configs/baselines/coarse_and_slice.yaml]
    members: [coarse_stage, slice]
"""


def write_plan(folder: Path) -> Path:
    path = folder / "study.yaml"
    path.write_text(TINY, encoding="utf-8")
    assert yaml.safe_load(TINY)
    return path
