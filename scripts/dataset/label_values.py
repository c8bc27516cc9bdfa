"""Which value of a label file is which organ: the ``labels`` of a datalist, or of one entry whose cohort differs.

Values are keys, as in the Decathlon. Our own: several values of an organ share a key, and any may be background::

    {"0": "background", "1": "liver", "2,3": "kidneys", "9": "background"}
    -> organs {"liver": 1, "kidneys": [2, 3]}, known values [0, 1, 2, 3, 9]
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from unicodedata import normalize

BACKGROUND, BACKGROUND_VALUE = "background", 0
NAME = re.compile(r"[^$%@\n][^\n]*\Z")  # $, % and @ mean something at the start of a text in a config


def plain_name(organ: str) -> str:
    """How an organ is spelt for a comparison: `` Right Kidney`` -> ``right_kidney``."""
    return normalize("NFKC", organ).strip().casefold().replace(" ", "_")


@dataclass(frozen=True)
class LabelValues:
    """The value of each organ in the label files, or its list of values; and all declared values, sorted, with 0."""

    organs: dict[str, int | list[int]]
    known: list[int]


def values_of(value: int | Sequence[int]) -> list[int]:
    """The file values of one organ as a list: ``3`` -> ``[3]``."""
    return [value] if isinstance(value, int) else list(value)


def read_label_values(labels: Any, where: str) -> LabelValues:
    """Read a map of values to organs as it stands in a JSON file; ``where`` is its owner, for the messages."""
    if not isinstance(labels, dict) or not labels:
        example = '{"0": "background", "1": "spleen"}'
        raise ValueError(f"{where} has no 'labels'; expected a map of values to organs such as {example}; add it.")
    organs: dict[str, int | list[int]] = {}
    known = {BACKGROUND_VALUE}
    for key, organ in labels.items():
        parts = [part.strip() for part in str(key).split(",")]
        if not (isinstance(organ, str) and NAME.match(organ) and all(part.isdecimal() for part in parts)):
            raise ValueError(
                f"'labels' of {where} has the pair {key!r}: {organ!r}, expected the value (an integer in quotes, or "
                'several with commas) and then the organ\'s name, such as "1": "spleen", no $, % or @; fix the pair.'
            )
        values = [int(part) for part in parts]
        if repeated := sorted((known - {BACKGROUND_VALUE}) & set(values)):
            raise ValueError(f"'labels' of {where} declares the value {repeated[0]} twice; keep it in one pair.")
        if BACKGROUND_VALUE in values and plain_name(organ) != BACKGROUND:
            raise ValueError(f"'labels' of {where} names 0 '{organ}', and 0 is background: give it its own value.")
        known.update(values)
        if same := [one for one in organs if plain_name(one) == plain_name(organ)]:
            joined = ",".join(map(str, [*values_of(organs[same[0]]), *values]))
            raise ValueError(f"'labels' of {where} names '{organ}' twice: rename one, or join them as '{joined}'.")
        if plain_name(organ) != BACKGROUND and BACKGROUND_VALUE not in values:
            organs[organ] = values[0] if len(values) == 1 else values
    return LabelValues(organs, sorted(known))


def organs_of_datalist(content: Mapping[str, Any], path: str) -> list[str]:
    """Every organ that a datalist knows, in its order; those that only some entries declare come last."""
    organs = dict.fromkeys(read_label_values(content.get("labels"), f"datalist {path}").organs)
    for entries in content.values():
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, dict) and "labels" in entry:
                own = read_label_values(entry["labels"], f"the entry {entry.get('image')} of datalist {path}")
                organs.update(dict.fromkeys(own.organs))
    return list(organs)
