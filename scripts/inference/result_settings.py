"""The settings that a result depends on, read from the objects that make it, so that none can be forgotten."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

PASSED_OVER = ("output_dir", "training")
OURS = __name__.partition(".")[0]


def settings_of(item: Any, inside: frozenset[int] = frozenset()) -> Any:
    """An object as plain values: its class and its public attributes, without tensors and paths.

    A network that is not of this bundle counts as what PyTorch prints of it.

    Args:
        item: networks and transforms.
        inside: identities of the objects that this one is part of, which are passed over.
    """
    if item is None or isinstance(item, (str, bool, int, float)):
        return item
    inside |= {id(item)}
    if isinstance(item, Mapping):
        return {str(key): settings_of(value, inside) for key, value in item.items() if id(value) not in inside}
    if isinstance(item, (list, tuple)):
        return [settings_of(value, inside) for value in item if id(value) not in inside]
    if isinstance(item, np.ndarray):
        return item.tolist()
    if isinstance(item, (Tensor, Path)):
        return None
    if isinstance(item, nn.Module) and type(item).__module__.partition(".")[0] != OURS:
        return repr(item)
    kept = dict(item.named_children()) if isinstance(item, nn.Module) else {}
    kept |= {} if isinstance(item, type) else getattr(item, "__dict__", {})
    public = {key: value for key, value in kept.items() if not key.startswith("_") and key not in PASSED_OVER}
    return {"class": getattr(item, "__qualname__", type(item).__qualname__)} | settings_of(public, inside)
