"""Markdown tables whose columns line up, so that they read well as plain text too."""

from __future__ import annotations

from collections.abc import Sequence


def markdown_table(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Cells as a Markdown table; all columns but the first are right-aligned.

    Example:
        | organ      | patients |
        |:-----------|---------:|
        | spleen     |       20 |
    """
    widths = [max(3, *(len(row[column]) for row in [header, *body])) for column in range(len(header))]
    lines = [
        "| "
        + " | ".join(c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        + " |"
        for row in [header, *body]
    ]
    rule = "|" + "|".join("-" * (w + 1) + ":" if i else ":" + "-" * (w + 1) for i, w in enumerate(widths)) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])
