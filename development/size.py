"""How large the project is, beside the targets for it.

python -m development.size
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from scripts.evaluation.score_tables import markdown_table

ROOT = Path(__file__).resolve().parents[1]
METHOD = ("coarse", "queries", "networks", "losses", "inference", "preprocessing")
TARGETS = {
    "tracked files": 500,
    "lines of scripts/": 13_000,
    "lines of the method's folders": 4_500,
    "lines of the longest file of scripts/": 250,
    "lines of README.md": 90,
    "words of all documents": 24_000,
}


def sizes(root: Path = ROOT) -> dict[str, int]:
    """What :data:`TARGETS` are set for, in the working tree of a git checkout."""
    listed = subprocess.run(["git", "-C", str(root), "ls-files"], capture_output=True, check=True, encoding="utf-8")
    tracked = [name for name in listed.stdout.splitlines() if (root / name).is_file()]
    lines = {
        name: len((root / name).read_text(encoding="utf-8").splitlines())
        for name in tracked
        if name.startswith("scripts/") and name.endswith(".py")
    }
    pages = [(root / name).read_text(encoding="utf-8") for name in tracked if name.endswith(".md")]
    return {
        "tracked files": len(tracked),
        "lines of scripts/": sum(lines.values()),
        "lines of the method's folders": sum(n for name, n in lines.items() if name.split("/")[1] in METHOD),
        "lines of the longest file of scripts/": max(lines.values()),
        "lines of README.md": len((root / "README.md").read_text(encoding="utf-8").splitlines()),
        "words of all documents": sum(len(page.split()) for page in pages),
    }


def main() -> None:
    """Print the table."""
    print(
        markdown_table(
            ["measure", "now", "target"], [[name, str(n), str(TARGETS[name])] for name, n in sizes().items()]
        )
    )


if __name__ == "__main__":
    main()
