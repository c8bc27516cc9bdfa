"""Web servers on this machine: one of plain files, and one that speaks as much of a model hub as a download needs."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FileHandler(SimpleHTTPRequestHandler):
    """The files of a folder; those whose name is listed break off in the middle."""

    def __init__(self, *arguments: Any, truncated: Sequence[str] = (), **settings: Any) -> None:
        self.truncated = truncated
        super().__init__(*arguments, **settings)

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if path.name in self.truncated:
            content = path.read_bytes()
            self.answer(200, content[: len(content) // 2], length=len(content))
        else:
            super().do_GET()

    def answer(self, status: int, content: bytes, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *arguments: Any) -> None:
        """Nothing: the test says what went wrong."""


class HubHandler(FileHandler):
    """A folder as the one repository of a hub, under any name and any revision."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        folder = Path(self.directory)
        if parts[:2] == ["api", "models"] and "tree" in parts:
            return self.answer(200, json.dumps(self.tree(folder)).encode(), Content_Type="application/json")
        if parts[:2] == ["api", "models"] and parts[-1] == "refs":
            branch = {"name": "main", "ref": "refs/heads/main", "targetCommit": COMMIT}
            refs = {"branches": [branch], "tags": [], "converts": []}
            return self.answer(200, json.dumps(refs).encode(), Content_Type="application/json")
        if parts[:2] == ["api", "models"]:
            siblings = [{"rfilename": entry["path"]} for entry in self.tree(folder)]
            info = {"id": "/".join(parts[2:4]), "sha": COMMIT, "siblings": siblings, "tags": [], "private": False}
            return self.answer(200, json.dumps(info).encode(), Content_Type="application/json")
        path = folder.joinpath(*parts[4:])
        if parts[2:3] != ["resolve"] or not path.is_file():
            return self.answer(404, b"", X_Error_Code="EntryNotFound")
        size = path.stat().st_size
        content = path.read_bytes() if self.command == "GET" else b""
        sent = content[: size // 2] if path.name in self.truncated else content
        self.answer(200, sent, size, ETag=f'"{blob_id(path)}"', X_Repo_Commit=COMMIT)

    @staticmethod
    def tree(folder: Path) -> list[dict[str, Any]]:
        return [
            {
                "type": "file",
                "path": path.relative_to(folder).as_posix(),
                "oid": blob_id(path),
                "size": path.stat().st_size,
            }
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        ]


@cache
def blob_id(path: Path) -> str:
    """Git's checksum of a file."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextmanager
def serving(folder: Path, handler: type[FileHandler] = FileHandler, truncated: Sequence[str] = ()) -> Iterator[str]:
    """Serve a folder on a free port of this machine; yields the address."""
    make = partial(handler, directory=str(folder), truncated=truncated)
    with ThreadingHTTPServer(("127.0.0.1", 0), make) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def hub_environment(address: str) -> dict[str, str]:
    """Environment in which a hub's client asks this server; on a busy machine it may take its time to answer."""
    return {
        "HF_ENDPOINT": address,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_ETAG_TIMEOUT": "300",
        "HF_HUB_DOWNLOAD_TIMEOUT": "300",
    }
