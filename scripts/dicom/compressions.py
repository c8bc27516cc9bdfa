"""Which transfer syntaxes are read: what ITK's GDCM decodes, uncompressed or compressed."""

from __future__ import annotations

from typing import Any

BASE = "1.2.840.10008.1.2"
UNCOMPRESSED = frozenset((BASE, f"{BASE}.1", f"{BASE}.2"))
"""Implicit and explicit little endian, explicit big endian: the pixels lie in the file one by one."""
DEFLATED = f"{BASE}.1.99"
READABLE = UNCOMPRESSED | {DEFLATED, f"{BASE}.5", *(f"{BASE}.4.{n}" for n in (50, 51, 57, 70, 80, 81, 90, 91))}
"""Besides: RLE Lossless (5); JPEG Baseline, Extended and Lossless (50 to 70); JPEG-LS (80, 81); JPEG 2000 (90, 91)."""
HOW_TO_DECOMPRESS = "export it again uncompressed (Explicit VR Little Endian)"


def obstacle(syntax: Any) -> str:
    """Why pixels are not read; empty if they are.

    Args:
        syntax: transfer syntax of a file, a ``pydicom.uid.UID``.

    Returns:
        The syntax by name and UID, and what to do.
    """
    if syntax in READABLE:
        return ""
    known = "" if syntax.name == syntax else f"{syntax.name}, "
    return f"compressed in a way that is not decoded ({known}transfer syntax {syntax}); {HOW_TO_DECOMPRESS}"
