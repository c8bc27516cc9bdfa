"""The zip: the same files give the same bytes, whenever and wherever they were written; nothing climbs out."""

from __future__ import annotations

import io
import os
import pickle
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_weights import Touch

from development.release.__main__ import main
from development.release.archive import archive_members, inspect_release, refuse_unexpected_pickles, write_archive
from scripts.files.result_files import digest


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path | bytes]:
    path = tmp_path / "metadata.json"
    path.write_text("{}", encoding="utf-8")
    return {"configs/metadata.json": path, "LICENSE": b"licence", "models/model.pt": bytes(range(256)) * 40}


def forged(path: Path, *names: str, mode: int = stat.S_IFREG | 0o644) -> Path:
    """A zip with members of any name."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            info = zipfile.ZipInfo("placeholder")
            info.filename = name  # ZipInfo itself would fix some of them
            info.external_attr = mode << 16
            archive.writestr(info, "x")
    return path


def test_the_same_files_give_the_same_bytes_whatever_their_order_times_and_permissions(
    files: dict[str, Path | bytes], tmp_path: Path
) -> None:
    write_archive(tmp_path / "one.zip", "agscl", files)
    source = files["configs/metadata.json"]
    assert isinstance(source, Path)
    os.utime(source, (1, 1))
    source.chmod(0o600)
    write_archive(tmp_path / "two.zip", "agscl", dict(reversed(files.items())))
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_bytes_do_not_depend_on_the_compression_library(files: dict[str, Path | bytes], tmp_path: Path) -> None:
    write_archive(tmp_path / "a.zip", "agscl", files)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        assert [info.filename for info in archive.infolist()] == sorted(info.filename for info in archive.infolist())
        assert archive.read("agscl/models/model.pt") == files["models/model.pt"]


def test_other_content_gives_other_bytes(files: dict[str, Path | bytes], tmp_path: Path) -> None:
    write_archive(tmp_path / "a.zip", "agscl", files)
    write_archive(tmp_path / "b.zip", "agscl", {**files, "LICENSE": b"Licence"})
    assert digest(tmp_path / "a.zip") != digest(tmp_path / "b.zip")


def test_the_members_of_a_release_are_those_that_were_packed(files: dict[str, Path | bytes], tmp_path: Path) -> None:
    write_archive(tmp_path / "a.zip", "agscl", files)
    assert archive_members(tmp_path / "a.zip") == sorted(f"agscl/{name}" for name in files)


@pytest.mark.parametrize("name", ["../out.txt", "agscl/../../out.txt", "/etc/out", "C:/out", "agscl\\..\\out", "c:out"])
def test_a_member_that_climbs_out_is_refused_in_reading_and_in_writing(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="outside of the bundle's folder"):
        archive_members(forged(tmp_path / "bad.zip", "agscl/LICENSE", name))
    with pytest.raises(ValueError, match="outside of the bundle's folder"):
        write_archive(tmp_path / "new.zip", name.split("/")[0], {"../../x": b""})
    assert not (tmp_path / "new.zip").exists()


def test_a_link_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds a link, 'agscl/models'"):
        archive_members(forged(tmp_path / "bad.zip", "agscl/models", mode=stat.S_IFLNK | 0o777))


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("names", [("agscl/a", "agscl/a"), ("agscl/README.md", "agscl/readme.MD")])
def test_two_members_of_one_name_are_refused(names: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="twice"):
        archive_members(forged(tmp_path / "bad.zip", *names))


@pytest.mark.parametrize("names", [("agscl/a", "other/a"), ("LICENSE",)])
def test_a_zip_without_exactly_one_folder_is_refused(names: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the one folder of a bundle"):
        archive_members(forged(tmp_path / "bad.zip", *names))


def test_a_truncated_and_a_changed_zip_are_refused(files: dict[str, Path | bytes], tmp_path: Path) -> None:
    write_archive(tmp_path / "a.zip", "agscl", files)
    content = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "half.zip").write_bytes(content[: len(content) // 2])
    (tmp_path / "changed.zip").write_bytes(content.replace(b"licence", b"license", 1))
    with pytest.raises(ValueError, match="half.zip is not a zip"):
        archive_members(tmp_path / "half.zip")
    with pytest.raises(ValueError, match="agscl/LICENSE does not have its checksum"):
        archive_members(tmp_path / "changed.zip")


def test_nothing_half_written_is_left(files: dict[str, Path | bytes], tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError):
        write_archive(tmp_path / "a.zip", "agscl", {**files, "gone": tmp_path / "gone"})
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("sha1", "a9993e364706816aba3e25717850c26c9cd0d89d"),
        ("sha256", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    ],
)
def test_checksums_are_the_published_ones_of_abc(kind: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert digest(tmp_path / "abc", kind) == expected


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_known_by_its_first_bytes_whatever_it_is_called(protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(pickle.dumps({"a": 1}, protocol))
    with pytest.raises(ValueError, match="docs/notes.txt is a pickle"):
        refuse_unexpected_pickles({"docs/notes.txt": path})


@pytest.mark.parametrize("name", ["a.pkl", "a.joblib", "A.PICKLE", "model.ts", "model.ckpt", "map.npy"])
def test_a_format_that_can_hold_a_pickle_is_refused_by_its_name(name: str, tmp_path: Path) -> None:
    np.save(tmp_path / "array.npy", np.zeros(3))
    with pytest.raises(ValueError, match=f"{name} is a pickle or may hold one"):
        refuse_unexpected_pickles({name: tmp_path / "array.npy"})


def test_a_zip_with_a_pickle_in_it_is_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(2)}, tmp_path / "table.csv")
    with zipfile.ZipFile(tmp_path / "harmless.docx", "w") as archive:
        archive.writestr("text.xml", "<p/>")
    refuse_unexpected_pickles({"harmless.docx": tmp_path / "harmless.docx"})
    with pytest.raises(ValueError, match="table.csv is a pickle"):
        refuse_unexpected_pickles({"table.csv": tmp_path / "table.csv"})


def test_weights_pass_and_weights_with_code_are_refused_and_not_run(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(2)}, tmp_path / "good.pt")
    torch.save({"weight": Touch(tmp_path / "ran")}, tmp_path / "bad.pt")
    refuse_unexpected_pickles({"models/model.pt": tmp_path / "good.pt"})
    with pytest.raises(ValueError, match="holds more than weights"):
        refuse_unexpected_pickles({"models/model.pt": tmp_path / "bad.pt"})
    assert not (tmp_path / "ran").exists()


METADATA = b'{"name": "agscl", "version": "0.1.0"}'


def zip_of(folder: Path, **members: bytes) -> Path:
    content: dict[str, Path | bytes] = {"configs/metadata.json": METADATA}
    write_archive(
        folder / "agscl.zip", "agscl", content | {name.replace("__", "."): it for name, it in members.items()}
    )
    return folder / "agscl.zip"


def test_a_sound_zip_passes_with_its_checksum(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = zip_of(tmp_path, LICENSE=b"licence")
    assert main(["inspect", str(path), "--sha256", digest(path).upper()]) == 0
    assert capsys.readouterr().out.startswith("2 files, no member climbs out")


def test_another_checksum_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = zip_of(tmp_path)
    assert main(["inspect", str(path), "--sha256", "0" * 64]) == 1
    assert "download it again, do not use it" in capsys.readouterr().err


def test_a_pickle_and_weights_with_code_are_refused_and_not_run(tmp_path: Path) -> None:
    code = Touch(tmp_path / "ran")
    with pytest.raises(ValueError, match="agscl/notes.txt is a pickle"):
        inspect_release(zip_of(tmp_path, notes__txt=pickle.dumps(code)))
    weights = io.BytesIO()
    torch.save({"weight": code}, weights)
    with pytest.raises(ValueError, match="holds more than weights"):
        inspect_release(zip_of(tmp_path, model__pt=weights.getvalue()))
    assert not (tmp_path / "ran").exists()


def test_metadata_that_would_be_evaluated_is_refused(tmp_path: Path) -> None:
    write_archive(tmp_path / "a.zip", "agscl", {"configs/metadata.json": b'{"version": "$exit()"}'})
    with pytest.raises(ValueError, match="version begins with .* which MONAI evaluates"):
        inspect_release(tmp_path / "a.zip")


def test_a_zip_that_is_no_bundle_and_no_file_at_all_are_refused(tmp_path: Path) -> None:
    write_archive(tmp_path / "a.zip", "agscl", {"README.md": b"text"})
    with pytest.raises(ValueError, match="holds no agscl/configs/metadata.json: it is not a bundle"):
        inspect_release(tmp_path / "a.zip")
    with pytest.raises(FileNotFoundError, match="no file"):
        inspect_release(tmp_path / "none.zip")
