"""After the upload: every address is downloaded and compared; only then the repository refers to it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from monai.apps.utils import download_url

from development.release.bundle_files import LARGE_FILES, MODEL_INFO
from development.release.large_files import read_large_files
from development.release.metadata import read_metadata, versioned_name
from development.release.model_info import model_info_text, read_model_info, with_release
from scripts.files.atomic_write import replacing


def confirm_release(root: Path, output_dir: Path) -> list[str]:
    """Download what a release published, and write `models/model_info.json` and `large_files.yml` of the repository.

    Args:
        root: the bundle.
        output_dir: folder of the releases, as given to the build.

    Returns:
        The addresses.

    Raises:
        FileNotFoundError: the bundle's version was not built there with an address.
        ValueError: an address does not answer, or serves another file; nothing is written then.
    """
    release = versioned_name(read_metadata(root))
    built = output_dir / release
    entry = read_model_info(built / Path(MODEL_INFO).name).get(release)
    if entry is None:
        raise FileNotFoundError(f"{built} has no addresses: build the release with --base_url first.")
    releases = with_release(read_model_info(root / MODEL_INFO), release, entry)
    expected = {entry["source"]: entry["sha256"]}
    expected |= {file.url: file.sha256 for file in read_large_files(built)}
    for url, sha256 in expected.items():
        require_served(url, sha256)
    with replacing(root / MODEL_INFO) as temporary:
        temporary.write_text(model_info_text(releases), encoding="utf-8")
    with replacing(root / LARGE_FILES) as temporary:
        temporary.write_bytes((built / LARGE_FILES).read_bytes())
    return list(expected)


def require_served(url: str, sha256: str) -> None:
    """Download a file and drop it again.

    Raises:
        ValueError: nothing comes, or another file.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            download_url(url, Path(folder) / "file", hash_val=sha256, progress=False)
        except (OSError, RuntimeError, ValueError) as error:  # the last is MONAI's error on a wrong hash
            raise ValueError(f"{url} does not serve the file that was built ({error}): upload it again.") from error
