"""An HTML page that holds all it shows: no server, no network, no script."""

import base64
import io
import os
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Literal

from matplotlib.figure import Figure

from scripts.files.atomic_write import write_text

FRAME = Path(__file__).with_name("page.html")


def write_page(path: str | os.PathLike[str], title: str, parts: Iterable[str]) -> None:
    """Write a page, whole or not at all: its title is text, the parts below it are HTML."""
    frame = Template(FRAME.read_text(encoding="utf-8"))
    write_text(path, frame.substitute(title=escape(title), body="\n".join(parts)), errors="backslashreplace")


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; its cells are HTML."""
    head = "".join(f"<th>{name}</th>" for name in header)
    body = "\n".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>\n{body}</table>"


def png(figure: Figure, kind: str = "png", dpi: float | Literal["figure"] = "figure") -> bytes:
    """A figure as the content of a PNG file, or of another kind."""
    stream = io.BytesIO()
    figure.savefig(stream, format=kind, dpi=dpi)
    return stream.getvalue()


def embedded(content: bytes, text: str, kind: str = "png") -> str:
    """A picture by the content of its file, with the text for those who do not see it."""
    return f'<img alt="{escape(text)}" src="data:image/{kind};base64,{base64.b64encode(content).decode("ascii")}">'
