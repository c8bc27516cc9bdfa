"""BTCV 2015: every baseline lies on its overlay, and so does the choice of 12 organs."""

from __future__ import annotations

import pytest
from config_compositions import CONFIGS, TRUNK, commands, composed, leaves, references

TRAIN, ABDOMEN, BTCV = "configs/train.yaml", "configs/data/abdomen.yaml", "configs/data/btcv.yaml"
# A baseline whose own command needs another data overlay is one of that data set.
BASELINES = [
    name
    for name in CONFIGS
    if "/baselines/" in name and not any("/data/" in file for command in commands(name) for file in command.files)
]


@pytest.mark.parametrize("name", [*BASELINES, "configs/recipes/btcv_12_organs.yaml", "configs/recipes/ensemble.yaml"])
def test_it_lies_on_the_overlay_of_btcv(name: str) -> None:
    parser = composed((TRUNK, TRAIN, ABDOMEN, BTCV, name))
    texts = [(place, value) for place, value in leaves(parser.config) if isinstance(value, str)]
    assert [(place, ref) for place, value in texts for ref in references(value) if ref not in parser] == []
    assert parser["spacing"] == [0.8, 0.8, 3.0]
    assert len(parser["organs"]) == (12 if "12_organs" in name else 13)
