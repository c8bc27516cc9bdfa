"""BTCV 2015: every baseline fits its overlay, and so does the choice of 12 organs."""

from __future__ import annotations

import pytest
from config_compositions import CONFIGS, commands, composed, leaves, references

TRAIN, TWELVE = "configs/train.yaml", "configs/data/btcv_12_organs.yaml"
BASELINES = [name for name in CONFIGS if "/baselines/" in name and commands(name)[0].files[0] == TRAIN]


@pytest.mark.parametrize("data", ["configs/data/btcv.yaml", TWELVE])
@pytest.mark.parametrize("name", BASELINES)
def test_it_fits_the_overlay_of_btcv(name: str, data: str) -> None:
    parser = composed((TRAIN, data, name))
    texts = [(place, value) for place, value in leaves(parser.config) if isinstance(value, str)]
    assert [(place, ref) for place, value in texts for ref in references(value) if ref not in parser] == []
    assert parser["spacing"] == [2.0, 2.0, 3.0]
    assert len(parser["organs"]) == (12 if data == TWELVE else 13)
