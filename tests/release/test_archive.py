"""The zip: the same files give the same bytes, whenever and wherever they were written; nothing climbs out."""

from __future__ import annotations

import os
import stat
import zipfile
from pathlib import Path

import pytest

from development.release.archive import archive_members, write_archive
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
