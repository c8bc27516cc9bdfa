"""Make the environment of the MONAI Label server: `.venv-monailabel` in the bundle's folder, beside nothing else.

    python -m scripts.monai_label.environment                   # 4 GB on disk; any Python 3.10 to 3.12 will do
    python -m scripts.monai_label.environment --monai 1.5.2     # put another MONAI in the same environment

MONAI Label needs an older numpy and pydicom than the bundle, hence an environment of its own. Needs only Python and a
network. The build of torch is chosen as for the bundle itself (`scripts/torch_choice.py`, AGSCL_TORCH overrides it).
"""

import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from scripts.files.atomic_write import write_text
from scripts.runtime.plain_errors import BUNDLE, command_parser
from scripts.torch_choice import pinned_torch, torch_attempts

FOLDER = BUNDLE / ".venv-monailabel"
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
VIEWER_MODE = Path(__file__).with_name("viewer_mode.js")
OLDEST_PYTHON, NEWEST_PYTHON = (3, 10), (3, 12)
MONAI_VERSION = "1.6.1"
STAMP = "agscl-stamp.json"
MISSING_OPERATOR = "operator torchvision::nms does not exist"

# Where the C++ part of torchvision does not fit the build of torch (a CPU torch beside PyPI's torchvision, made for
# CUDA), the import stops at two operators that nothing here calls. They are declared without an implementation, just
# before torchvision asks for them; an environment whose torchvision can be imported is left alone.
HOOK = '''"""Declares the operators of torchvision where its C++ part does not fit the build of torch."""

import sys


class DeclareOperators:
    libraries = []

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name == "torchvision._meta_registrations" and not cls.libraries:
            import torch

            library = torch.library.Library("torchvision", "FRAGMENT")
            for operator in ("nms", "qnms"):
                if not hasattr(torch.ops.torchvision, operator):
                    library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            cls.libraries.append(library)


sys.meta_path.insert(0, DeclareOperators)
'''


def python_of(folder: Path) -> Path:
    """The interpreter of a virtual environment."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def wanted(monai: str) -> dict[str, str]:
    """What the stamp of a complete environment holds."""
    needed = REQUIREMENTS.read_bytes() + VIEWER_MODE.read_bytes()
    return {"monai": monai, "requirements": hashlib.sha256(needed).hexdigest()}


def monai_of(folder: Path = FOLDER) -> str:
    """Version of MONAI in the environment; empty if there is no complete environment."""
    stamp = folder / STAMP
    found = json.loads(stamp.read_text(encoding="utf-8")) if stamp.is_file() else {}
    version = str(found.get("monai", ""))
    return version if found == wanted(version) else ""


def require(folder: Path = FOLDER) -> Path:
    """The interpreter of the environment; ValueError if it is not there or was made for other requirements."""
    if not monai_of(folder):
        raise ValueError(f"no complete environment in {folder}: run python -m scripts.monai_label.environment.")
    return python_of(folder)


def make(monai: str = MONAI_VERSION, folder: Path = FOLDER) -> None:
    """Bring the environment to a version of MONAI, if it has another; ValueError says why it cannot be made."""
    if monai_of(folder) == monai:
        return
    running = sys.version_info[:2]
    if not OLDEST_PYTHON <= running <= NEWEST_PYTHON:
        this, oldest, newest = (f"{major}.{minor}" for major, minor in (running, OLDEST_PYTHON, NEWEST_PYTHON))
        use = "`python3.11 -m scripts.monai_label.environment`"
        raise ValueError(f"this is Python {this}, MONAI Label runs on {oldest} to {newest}: start {use}.")
    python = python_of(folder)
    if not python.exists() and subprocess.run([sys.executable, "-m", "venv", str(folder)]).returncode:
        raise ValueError(f"{folder} could not be made: see above. Is there disk space, may you write there?")
    (folder / STAMP).unlink(missing_ok=True)
    if failure_of(python, "import torch"):
        _install_torch(python)
    print(f"installing MONAI Label with monai {monai} (about 160 packages, 2 to 20 minutes)", flush=True)
    if not pip_install(python, "-r", str(REQUIREMENTS), f"monai=={monai}"):
        raise ValueError("the packages could not be installed: see above. Run the same command to try again.")
    _fix_torchvision(python)
    if failure := failure_of(python, "import monailabel.main, monailabel.transform.post"):
        raise ValueError(f"{folder} was made and cannot import MONAI Label:\n{failure}")
    add_viewer_mode(_site_packages(python) / "monailabel/endpoints/static/ohif/app-config.js")
    write_text(folder / STAMP, json.dumps(wanted(monai)))


def failure_of(python: Path, code: str) -> str:
    """What went wrong with a line of Python; empty if nothing."""
    finished = subprocess.run([str(python), "-c", code], capture_output=True, encoding="utf-8")
    return "" if finished.returncode == 0 else finished.stderr.strip() or f"exit status {finished.returncode}"


def pip_install(python: Path, *arguments: str) -> bool:
    """Install packages into an environment; False if pip failed, which has said why."""
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *arguments]
    return subprocess.run(command, cwd=BUNDLE).returncode == 0


def _install_torch(python: Path) -> None:
    """Install torch and, from the same place, the torchvision that belongs to it."""
    pin = pinned_torch((BUNDLE / "requirements.txt").read_text(encoding="utf-8"))
    gpu = subprocess.run("nvidia-smi -L", shell=True, capture_output=True, encoding="utf-8")
    for attempt in torch_attempts(pin, platform.system(), "GPU" in gpu.stdout, os.environ.get("AGSCL_TORCH", "")):
        print(f"installing {attempt.announcement}, and torchvision", flush=True)
        if pip_install(python, *attempt.pip_arguments, "torchvision"):
            return
    raise ValueError("torch could not be installed: see above. AGSCL_TORCH may name another requirement.")


def _fix_torchvision(python: Path) -> None:
    """Make torchvision importable beside a torch of another build, where it is not."""
    if MISSING_OPERATOR not in failure_of(python, "import torchvision"):
        return
    site_packages = _site_packages(python)
    (site_packages / "agscl_torchvision_hook.py").write_text(HOOK, encoding="utf-8")
    (site_packages / "agscl_torchvision_hook.pth").write_text("import agscl_torchvision_hook\n", encoding="utf-8")
    print("torchvision is of another build than torch: its operators are declared, not implemented", flush=True)


def _site_packages(python: Path) -> Path:
    ask = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    return Path(subprocess.check_output(ask, encoding="utf-8").strip())


def add_viewer_mode(config: Path) -> None:
    """Append the mode that can edit and store to the config of the OHIF viewer, in the place of an earlier one."""
    added = VIEWER_MODE.read_text(encoding="utf-8")
    shipped = config.read_text(encoding="utf-8").split(added.splitlines()[0])[0]
    write_text(config, shipped + added)


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the environment."""
    parser = command_parser("scripts.monai_label.environment", __doc__)
    parser.add_argument("--monai", default=MONAI_VERSION, metavar="VERSION", help=f"default: {MONAI_VERSION}")
    parser.add_argument("--folder", default=FOLDER, type=Path, help=f"default: {FOLDER.name} in the bundle's folder")
    given = parser.parse_args(arguments)
    make(given.monai, given.folder.absolute())  # pip runs in the bundle's folder
    print(f"ready: {python_of(given.folder)} (monai {monai_of(given.folder)})")


if __name__ == "__main__":
    main()
