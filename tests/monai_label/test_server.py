from __future__ import annotations

import shutil
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from scripts.monai_label.server import NAME, STRATEGY, Server, main, prepare_app


def write_bundle(folder: Path, *left_out: str) -> Path:
    """The files that MONAI Label reads, empty."""
    files = {"configs/inference.json", "configs/train.json", "configs/metadata.json", "models/model.pt", "scripts/a.py"}
    for name in files - set(left_out):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def with_app(workspace: Path) -> Path:
    """A workspace to which the app was downloaded before."""
    (workspace / "app" / STRATEGY).parent.mkdir(parents=True)
    (workspace / "app" / STRATEGY).touch()
    return workspace


def test_the_server_gets_a_copy_of_the_bundle_that_later_starts_keep(tmp_path: Path) -> None:
    bundle, workspace = write_bundle(tmp_path / "bundle"), with_app(tmp_path / "workspace")
    (bundle / "runs").mkdir()
    copy = prepare_app(bundle, workspace, Path(sys.executable))
    assert copy == workspace / "app/model" / NAME
    assert sorted(path.name for path in copy.iterdir()) == ["configs", "models", "scripts"]
    (copy / "models/model.pt").write_text("fine-tuned")
    assert prepare_app(bundle, workspace, Path(sys.executable)) == copy
    assert (copy / "models/model.pt").read_text() == "fine-tuned"
    assert (bundle / "models/model.pt").read_text() == "models/model.pt"


def test_an_app_whose_copy_was_interrupted_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, python = write_bundle(tmp_path / "bundle"), tmp_path / "environment/bin/python"
    installed = tmp_path / "environment/monailabel/sample-apps/monaibundle"
    (installed / "lib/activelearning").mkdir(parents=True)
    (installed / "main.py").write_text("class MyApp: ...")

    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "copy2", interrupted)
        prepare_app(bundle, tmp_path / "workspace", python)
    prepare_app(bundle, tmp_path / "workspace", python)
    app = tmp_path / "workspace/app"
    assert (app / STRATEGY).is_file() and (app / "main.py").read_text().count("extend(MyApp)") == 1


def test_a_bundle_without_weights_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle", "models/model.pt")
    with pytest.raises(FileNotFoundError, match="has no models/model.pt, which MONAI Label reads"):
        prepare_app(bundle, tmp_path / "workspace", Path(sys.executable))
    assert not (tmp_path / "workspace").exists()


def test_a_server_that_ends_at_once_is_reported_with_its_log(tmp_path: Path) -> None:
    server = Server(tmp_path, str(tmp_path), port=1, log=tmp_path / "log")
    server.command = [sys.executable, "-c", "raise SystemExit('no app here')"]
    with pytest.raises(RuntimeError, match="did not start: see .*log"), server:
        pass
    assert (tmp_path / "log").read_text().strip() == "no app here"


class OtherProtocol(BaseHTTPRequestHandler):
    """Answers with the banner of a secure shell."""

    def handle(self) -> None:
        self.wfile.write(b"SSH-2.0-x\r\n")


@pytest.mark.parametrize("protocol", [BaseHTTPRequestHandler, OtherProtocol])
def test_a_port_in_use_is_refused(protocol: type[BaseHTTPRequestHandler], tmp_path: Path) -> None:
    other = HTTPServer(("127.0.0.1", 0), protocol)  # answers everything with status 501
    Thread(target=other.serve_forever, daemon=True).start()
    with (
        pytest.raises(RuntimeError, match=f"port {other.server_port} is in use"),
        Server(tmp_path, str(tmp_path), port=other.server_port),
    ):
        pass
    other.shutdown()
    other.server_close()


@pytest.mark.parametrize(
    ("host", "asked"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("192.168.1.7", "192.168.1.7")]
)
def test_it_is_asked_at_the_address_that_it_listens_to(host: str, asked: str, tmp_path: Path) -> None:
    assert Server(tmp_path, str(tmp_path), port=8001, host=host).url == f"http://{asked}:8001"


def test_studies_that_are_no_folder_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--studies", str(tmp_path / "scnas"), "--workspace", str(tmp_path / "w")]) == 1
    assert "scnas is no folder: give that of the scans, or the address" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("chosen", [None, "/elsewhere"])
def test_what_it_fetches_is_kept_beside_the_app_unless_told_otherwise(
    chosen: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = "MONAI_LABEL_DICOMWEB_CACHE_PATH"
    monkeypatch.delenv(setting, raising=False)
    if chosen:
        monkeypatch.setenv(setting, chosen)
    server = Server(tmp_path / "app", "http://127.0.0.1:8042/dicom-web", environment=tmp_path / "environment")
    assert server.env[setting] == (chosen or str(tmp_path / "dicomweb"))
    assert server.env["PATH"].startswith(str(tmp_path / "environment/bin"))


def test_leaving_the_context_ends_the_server_and_what_it_started(tmp_path: Path) -> None:
    server = Server(tmp_path, str(tmp_path), port=1)
    server.command = [sys.executable, "-c", SERVING.format(marker=str(tmp_path / "port"))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scripts.monai_label.server.answers", lambda url: (tmp_path / "port").exists())
        with server:
            process = server.process
            assert process is not None and process.poll() is None
    assert process.poll() is not None
    assert server.process is None


SERVING = """
import pathlib, signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # which tests in the background would ignore
pathlib.Path({marker!r}).touch()
time.sleep(60)
"""
