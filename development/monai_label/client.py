"""The REST calls of a labelling client, as 3D Slicer and OHIF make them. Standard library only."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
import uuid
from email import message_from_bytes
from email.policy import HTTP
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

POLL_SECONDS = 1.0


class ServerRefusal(Exception):
    """The server answered with an error; the message is its answer."""


class Client:
    """A client of one server.

    Args:
        url: address of the server.
        timeout: seconds that one answer may take.
    """

    def __init__(self, url: str, timeout: float = 1800.0) -> None:
        self.url, self.timeout = url.rstrip("/"), timeout

    def info(self) -> dict[str, Any]:
        """What the server offers: models, labels, trainers."""
        answer: dict[str, Any] = json.loads(self._call("GET", "/info/")[1])
        return answer

    def infer(self, model: str, image: str, folder: Path, **params: Any) -> tuple[Path, dict[str, Any]]:
        """Segment a study; return the label file, written to a folder, and the parameters that came with it."""
        kind, form = multipart({"params": json.dumps(params)})
        content_type, body = self._call("POST", f"/infer/{model}?image={quote_plus(image)}&output=all", form, kind)
        parts = message_from_bytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body, policy=HTTP)
        path, answer = folder / image, {}
        for part in parts.iter_parts():
            content = part.get_payload(decode=True)
            if not isinstance(content, bytes):
                continue
            name = part.get_filename()
            if name:
                path = folder / (image + "".join(Path(name).suffixes))  # in the format of the study
                folder.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            else:
                answer = json.loads(content)
        return path, answer

    def save_label(self, image: str, label: Path, segments: dict[str, int] | None = None) -> None:
        """Submit a finished label, with the values of its segments as 3D Slicer does, or without."""
        noted = [{"name": name, "idx": value} for name, value in (segments or {}).items()]
        kind, form = multipart({"params": json.dumps({"label_info": noted} if noted else {})}, {"label": label})
        self._call("PUT", f"/datastore/label?image={quote_plus(image)}&tag=final", form, kind)

    def train(self, model: str, **params: Any) -> dict[str, Any]:
        """Fine-tune a model and wait for the end; return the task with its status and last lines."""
        body = json.dumps(params).encode()
        self._call("POST", f"/train/{model}", body, "application/json")
        return self.wait_for_training()

    def wait_for_training(self) -> dict[str, Any]:
        """Wait for the end of the last training; return the task with its status and last lines."""
        deadline = time.monotonic() + self.timeout
        while True:
            task: dict[str, Any] = json.loads(self._call("GET", "/train/")[1])
            if task["status"] not in ("SUBMITTED", "RUNNING"):
                return task
            if time.monotonic() > deadline:
                raise ServerRefusal(f"the training did not end within {self.timeout:g} s.")
            time.sleep(POLL_SECONDS)

    def _call(
        self, method: str, path: str, body: bytes | None = None, content_type: str | None = None
    ) -> tuple[str, bytes]:
        headers = {} if content_type is None else {"Content-Type": content_type}
        request = urllib.request.Request(self.url + path, data=body, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as answer:
                return answer.headers["Content-Type"], answer.read()
        except urllib.error.HTTPError as error:
            text = error.read().decode("utf-8", "replace")
            raise ServerRefusal(f"{method} {path}: status {error.code}, {text[:500]}") from error


def multipart(fields: dict[str, str], files: dict[str, Path] | None = None) -> tuple[str, bytes]:
    """A form with fields and files: its content type and its bytes."""
    boundary = uuid.uuid4().hex
    parts = []
    for name, value in fields.items():
        parts.append((f'form-data; name="{name}"', value.encode()))
    for name, path in (files or {}).items():
        parts.append((f'form-data; name="{name}"; filename="{path.name}"', path.read_bytes()))
    lines = [
        f"--{boundary}\r\nContent-Disposition: {disposition}\r\n\r\n".encode() + content + b"\r\n"
        for disposition, content in parts
    ]
    return f"multipart/form-data; boundary={boundary}", b"".join(lines) + f"--{boundary}--\r\n".encode()
