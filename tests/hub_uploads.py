"""The endpoints of a model hub that an upload needs, over a folder: who may write, and how each file is stored."""

from __future__ import annotations

import base64
import hashlib
import json
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from local_server import COMMIT, HubHandler

TOKEN = "hf_of_the_tests"


class UploadHubHandler(HubHandler):
    """A hub with one private repository, empty at first: reads and writes need the token.

    As on a real hub, a file in large file storage has to be there, with the sha256 that is its name, before a commit
    may refer to it. Large files and a list of the requests lie beside the folder of the repository.
    """

    def do_GET(self) -> None:
        if self.allowed():
            super().do_GET()

    def do_POST(self) -> None:
        body = self.body()
        if not self.allowed():
            return None
        path = urlsplit(self.path).path
        self.note({"method": "POST", "path": path})
        if path == "/api/repos/create":
            return self.create(json.loads(body))
        if path == "/api/validate-yaml":
            return self.validate(json.loads(body)["content"])
        if "/preupload/" in path:
            return self.say({"files": [self.mode(file["path"]) for file in json.loads(body)["files"]]})
        if path.endswith(".git/info/lfs/objects/batch"):
            return self.say({"transfer": "basic", "objects": [self.action(one) for one in json.loads(body)["objects"]]})
        if path == "/verify":
            asked = json.loads(body)
            stored = self.stored(asked["oid"])
            return self.say({}, 200 if stored.is_file() and stored.stat().st_size == asked["size"] else 404)
        if "/commit/" in path:
            return self.commit([json.loads(line) for line in body.splitlines()])
        if "/tag/" in path:
            self.note({"tag": json.loads(body)["tag"]})
            return self.say({})
        return self.say({"error": f"unknown {path}"}, 404)

    def do_PUT(self) -> None:
        """Take a large file; the address itself is the permission, as with signed addresses."""
        body, oid = self.body(), Path(self.path).name
        if hashlib.sha256(body).hexdigest() != oid:
            return self.say({"error": "other bytes than announced"}, 400)
        self.stored(oid).parent.mkdir(parents=True, exist_ok=True)
        self.stored(oid).write_bytes(body)
        return self.say({})

    @property
    def repository(self) -> Path:
        return Path(self.directory)

    def stored(self, oid: str) -> Path:
        return self.repository.parent / "large_files" / oid

    def note(self, what: dict[str, Any]) -> None:
        log = self.repository.parent / "requests.jsonl"
        with log.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(what) + "\n")

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def allowed(self) -> bool:
        if self.headers.get("Authorization") == f"Bearer {TOKEN}":
            return True
        self.say({"error": "Invalid username or password."}, 401)
        return False

    def say(self, content: dict[str, Any], status: int = 200) -> None:
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def create(self, asked: dict[str, Any]) -> None:
        self.note({"created": asked})
        name = f"{asked['organization']}/{asked['name']}"
        self.say({"url": f"http://{self.headers['Host']}/{name}", "name": name})

    def validate(self, card: str) -> None:
        head = yaml.safe_load(card.split("---\n")[1]) if card.startswith("---\n") else None
        errors = [] if isinstance(head, dict) else [{"message": "no YAML head"}]
        self.say({"errors": errors, "warnings": []}, 400 if errors else 200)

    def mode(self, path: str) -> dict[str, Any]:
        """How a file is stored; a new repository of a hub has weights in large file storage by default."""
        return {"path": path, "uploadMode": "lfs" if fnmatch(path, "*.pt") else "regular", "shouldIgnore": False}

    def action(self, one: dict[str, Any]) -> dict[str, Any]:
        """Where to send a large file that is not there yet."""
        address = f"http://{self.headers['Host']}"
        links = {"upload": {"href": f"{address}/lfs/{one['oid']}"}, "verify": {"href": f"{address}/verify"}}
        return one if self.stored(one["oid"]).is_file() else {**one, "actions": links}

    def commit(self, lines: list[dict[str, Any]]) -> None:
        for line in lines[1:]:
            value = line["value"]
            target = self.repository / value["path"]
            target.parent.mkdir(parents=True, exist_ok=True)
            large = line["key"] == "lfsFile"
            target.write_bytes(
                self.stored(value["oid"]).read_bytes() if large else base64.b64decode(value["content"], validate=True)
            )
        self.note({"committed": {line["value"]["path"]: line["key"] for line in lines[1:]}})
        page = self.path.removeprefix("/api/models").split("/commit/")[0]
        self.say({"commitUrl": f"http://{self.headers['Host']}{page}/commit/{COMMIT}", "commitOid": COMMIT})
