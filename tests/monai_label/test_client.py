"""The client against a server of the standard library that answers as MONAI Label does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from email import message_from_bytes
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from development.monai_label.client import Client, ServerRefusal, multipart

LABEL = bytes(range(256)) + b"\r\n--not a boundary\r\n"


class Answers(BaseHTTPRequestHandler):
    """Notes the requests and answers each path."""

    received: list[tuple[str, str, bytes]] = []
    statuses = ["RUNNING", "DONE"]

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.received.append((f"{self.command} {self.path}", self.headers.get("Content-Type", ""), body))
        kind, content, status = "application/json", b"{}", 200
        if self.path.startswith("/infer/"):
            kind, content = multipart(
                {"params": json.dumps({"label_names": {"liver": 1}})}, {"image": self.server.label}
            )  # type: ignore[attr-defined]
        elif self.path.startswith("/train/"):
            content = json.dumps({"status": self.statuses.pop(0) if self.command == "GET" else "SUBMITTED"}).encode()
        elif self.path == "/info/":
            status, content = 500, b"out of order"
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = answer


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    server = HTTPServer(("127.0.0.1", 0), Answers)
    server.label = tmp_path / "label.nii.gz"  # type: ignore[attr-defined]
    (tmp_path / "label.nii.gz").write_bytes(LABEL)
    Answers.received = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Client(f"http://127.0.0.1:{server.server_port}/", timeout=10)
    server.shutdown()
    thread.join()
    server.server_close()


def form_of(kind: str, body: bytes) -> dict[str, bytes]:
    """The parts of a form by name."""
    message = message_from_bytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body, policy=HTTP)
    return {part["Content-Disposition"].params["name"]: part.get_payload(decode=True) for part in message.iter_parts()}  # type: ignore[misc]


def test_inference_gives_the_label_byte_by_byte_and_the_names(client: Client, tmp_path: Path) -> None:
    path, params = client.infer("agscl", "a study", tmp_path / "out", device="cpu")
    assert path.read_bytes() == LABEL
    assert params == {"label_names": {"liver": 1}}
    request, kind, body = Answers.received[0]
    assert request == "POST /infer/agscl?image=a+study&output=all"
    assert json.loads(form_of(kind, body)["params"]) == {"device": "cpu"}


def test_a_label_is_submitted_with_the_names_of_its_segments(client: Client, tmp_path: Path) -> None:
    client.save_label("x", tmp_path / "label.nii.gz", {"liver": 3})
    request, kind, body = Answers.received[0]
    form = form_of(kind, body)
    assert request == "PUT /datastore/label?image=x&tag=final"
    assert form["label"] == LABEL
    assert json.loads(form["params"]) == {"label_info": [{"name": "liver", "idx": 3}]}


def test_training_is_followed_to_its_end(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("development.monai_label.client.POLL_SECONDS", 0.01)
    assert client.train("agscl", max_epochs=2)["status"] == "DONE"
    assert json.loads(Answers.received[0][2]) == {"max_epochs": 2}


def test_an_error_of_the_server_is_passed_on(client: Client) -> None:
    with pytest.raises(ServerRefusal, match="GET /info/: status 500, out of order"):
        client.info()
