"""The manifest of an output folder: which result is of which scan, by which weights, and what was noticed.

``manifest.json`` is kept over several runs into one folder. Only a run on the same scan with the same weights replaces
a result, one on the same scans and labels with the same weights and settings a table of scores; none if it was changed.
"""

import hashlib
import json
import logging
import os
import uuid
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any

from scripts.dataset.datalist_file import PATH_KEYS, files_of
from scripts.dataset.problems import listed
from scripts.files import result_files
from scripts.files.atomic_write import write_text

logger = logging.getLogger(__name__)

MAX_LISTED = 5
SPACE_PER_SCAN = 8 << 20
"""Bytes for pictures and report; our choice, like the quarter of a scan's size for label map and DICOM-SEG."""


class Manifest:
    """Results of one run in one folder.

    `kinds`, keys of `SUFFIXES`, are written for each case; `tables` maps each file that is written over all cases to
    the settings that it depends on. These, and the `settings` that all other results depend on, are plain values.
    """

    def __init__(
        self,
        output_dir: str | Path,
        kinds: Sequence[str],
        weights: Sequence[str],
        tables: Mapping[str, Any] | None = None,
        settings: Any = None,
    ) -> None:
        self.folder, self.kinds, self.tables = Path(output_dir), list(kinds), dict(tables or {})
        there = [(path.name, result_files.weights_digest(path)) for path in map(Path, weights) if path.is_file()]
        self.weights = {name: " ".join(sha for one, sha in there if one == name) for name, _ in there}
        self.settings, self.journal = settings, self.folder / result_files.JOURNALS.replace("*", uuid.uuid4().hex)
        self.cases: dict[str, Mapping[str, Any]] = {}
        self._digests: dict[str, str] = {}
        self._entries: dict[str, Any] = {}

    def facts(self) -> dict[str, Any]:
        """What all results of the run depend on: bundle, versions of what it runs on, weights and settings."""
        bundle = result_files.bundle_identity()
        versions = {"python": python_version(), **{name: version(name) for name in ("torch", "monai", "numpy")}}
        facts = {"bundle": f"{bundle.name} {bundle.version}", "versions": versions}
        return {**facts, "weights_sha256": self.weights, "settings": self.settings}

    def claim(self, cases: Sequence[Mapping[str, Any]], done: Collection[str] | None = None) -> list[str]:
        """Make sure, before the work, that the results of all cases can be written and destroy nothing.

        `done` are the cases that the first process of this run found done; it has checked for all. Returns the done
        cases: all results are there, of the same scan by the same weights and settings. ValueError if a result would
        replace an input or a file that is not the same result of an earlier run, or the folder cannot be written to.
        """
        self.cases = {str(case["case"]): case for case in cases}
        if done is not None:
            self._entries = result_files.read_manifest(self.folder).get("cases", {})
            return list(done)
        results = [(case, path) for case in self.cases for path in self.files_of(case)]
        tables = [self.folder / name for name in self.tables]
        manifest, content = self.folder / result_files.MANIFEST, result_files.read_manifest(self.folder)
        self._entries, made = content.get("cases", {}), content.get("tables", {})
        done = dict.fromkeys(filter(self._is_done, self.cases))
        space = sum(SPACE_PER_SCAN + _size(Path(self.cases[case]["image"])) // 4 for case in self.cases.keys() - done)
        result_files.claim_outputs([*(path for _, path in results), *tables, manifest], files_of(cases), space)
        if manifest.exists() and not content:
            raise ValueError(f"{manifest} is not a list of this bundle's results: give another output folder.")
        reasons = {path: self._problem(case, path) for case, path in results if os.path.lexists(path)}
        reasons |= {path: self._table_problem(made.get(path.name), path) for path in tables if os.path.lexists(path)}
        if problems := [f"{path}: {reason}" for path, reason in reasons.items() if reason]:
            shown = listed(problems, MAX_LISTED, "\n  ")
            raise ValueError(f"results would be lost:\n  {shown}\nGive another output folder, or move these files.")
        self._warn_of_leftovers(self.cases.keys() - done)
        bundle = self.facts()["bundle"]
        if older := [case for case in done if self._entries.get(case, {}).get("bundle") != bundle]:
            made = "made by another version of the bundle and are kept: delete them to have them made again"
            logger.warning("%s: the results of %s were %s.", self.folder, listed(older, MAX_LISTED), made)
        return list(done)

    def _warn_of_leftovers(self, cases: Collection[str]) -> None:
        """Say which results that this run does not write will stay beside its own, made by other settings."""
        entries = {case: self._entries[case] for case in sorted(cases & self._entries.keys())}
        others = [case for case, old in entries.items() if old.get("settings_sha256") != self._settings_digest(case)]
        written = {path.name for case in others for path in self.files_of(case)}
        found = [name for case in others for name in entries[case]["results"] if name not in written]
        if left := [name for name in found if (self.folder / name).is_file()]:
            beside = "stay beside those of this run, and an earlier one with other settings has made them: delete them"
            logger.warning("%s: %s %s.", self.folder, listed(left, MAX_LISTED), beside)

    def turn(self, case: Mapping[str, Any]) -> tuple[bool, int]:
        """Sort key: large scans first, and last what an earlier run began and did not end: it may end this run too."""
        began = not self._entries.get(str(case["case"]), {}).get("finished", True)
        return began, -_size(Path(case["image"]))

    def files_of(self, case: str) -> list[Path]:
        """The files that this run may write for a case."""
        return [result_files.result_path(self.folder, case, kind) for kind in self.kinds]

    def begin(self, case: str) -> None:
        """Note that the results of a case are being written: after a run that is cut short they may be replaced."""
        self._write(case, {"finished": False, "results": {}})

    def record(self, case: str, warnings: Sequence[str] = ()) -> None:
        """List the results of a case."""
        results = {path.name: result_files.digest(path) for path in self.files_of(case) if path.is_file()}
        self._write(case, {"finished": True, "warnings": list(warnings), "results": results})

    def finish(self) -> None:
        """List the tables, and fold the journals in; for the last process."""
        found = result_files.read_manifest(self.folder).get("cases", {})
        done = [case for case in self.cases if found.get(case, {}).get("finished")]
        self._digests |= {self.cases[case]["image"]: found[case]["input_sha256"] for case in done}
        paths = {name: self.folder / name for name in self.tables if (self.folder / name).is_file()}
        self.fold({name: {**self._origin(name), "sha256": result_files.digest(path)} for name, path in paths.items()})

    def fold(self, tables: Mapping[str, Any] | None = None) -> None:
        """Write the manifest with what the journals add to it, and these tables; for a process that is alone."""
        journals = list(self.folder.glob(result_files.JOURNALS))
        if not journals and not tables:
            return
        content = {"format": result_files.FORMAT, "cases": {}} | result_files.read_manifest(self.folder)
        if tables:
            content["tables"] = content.get("tables", {}) | dict(tables)
        write_text(self.folder / result_files.MANIFEST, json.dumps(content, indent=1) + "\n")
        for journal in journals:
            journal.unlink()

    def _write(self, case: str, what: dict[str, Any]) -> None:
        """Add an entry to the journal: to write the whole manifest for every case would take the square of the time."""
        facts = self.facts()
        entry = {
            "input": _source(Path(self.cases[case]["image"])),
            "input_sha256": self._digest(self.cases[case]["image"]),
            "weights_sha256": facts["weights_sha256"],
            "settings_sha256": self._settings_digest(case),
            "bundle": facts["bundle"],
            "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            **what,
        }
        before, made_by = self._entries.get(case, {}), ("input_sha256", "weights_sha256")
        kept = before["results"] if all(before.get(key) == entry[key] for key in made_by) else {}
        entry["results"] = kept | what["results"]
        self._entries[case] = entry
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.journal.open("a", encoding="utf-8") as journal:
            journal.write(json.dumps({"cases": {case: entry}}) + "\n")

    def _is_done(self, case: str) -> bool:
        """Whether the results of a case, which are known to be of its scan and weights, are all there."""
        entry, wanted = self._entries.get(case), {path.name for path in self.files_of(case)}
        if not entry or not entry["finished"] or entry.get("settings_sha256") != self._settings_digest(case):
            return False
        results = wanted & entry["results"].keys()
        return bool(results) and all((self.folder / name).is_file() for name in results)

    def _settings_digest(self, case: str) -> str:
        """SHA-256 of the settings, the scan and its label, and what else is said of the case."""
        return _text_digest([self.settings, self._by_content(self.cases[case])])

    def _by_content(self, case: Mapping[str, Any]) -> dict[str, Any]:
        """A case with digests in place of paths."""
        return {key: self._digest(str(value)) if key in PATH_KEYS else value for key, value in case.items()}

    def _digest(self, scan: str) -> str:
        """SHA-256 of a scan or label map, read once: scans are large, and several results depend on it."""
        if scan not in self._digests:
            self._digests[scan] = content_digest(Path(scan))
        return self._digests[scan]

    def _problem(self, case: str, path: Path) -> str:
        """Why a file may not be replaced, empty if it may."""
        entry = self._entries.get(case)
        if entry is None or (entry["finished"] and path.name not in entry["results"]):
            return f"no run listed in {result_files.MANIFEST} has written it"
        if entry["input_sha256"] != self._digest(self.cases[case]["image"]):
            return f"made from another scan, {entry['input']}"
        if entry["weights_sha256"] != self.weights:
            return "made with other weights"
        if entry["finished"] and (not path.is_file() or result_files.digest(path) != entry["results"][path.name]):
            return "changed since it was written"
        return ""

    def _origin(self, name: str) -> dict[str, Any]:
        """What a table is made of."""
        cases = _text_digest([self._by_content(case) for _, case in sorted(self.cases.items())])
        return {"cases_sha256": cases, "weights_sha256": self.weights, "settings": self.tables[name]}

    def _table_problem(self, entry: Mapping[str, Any] | None, path: Path) -> str:
        """Why a table may not be replaced, empty if it may."""
        if entry is None:
            return f"no run listed in {result_files.MANIFEST} has written it"
        if changed := [key.partition("_")[0] for key, value in self._origin(path.name).items() if entry[key] != value]:
            return f"made with other {', '.join(changed)}"
        return "" if result_files.digest(path) == entry["sha256"] else "changed since it was written"


def _text_digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def content_digest(scan: Path) -> str:
    """SHA-256 of a file; of header and voxels apart, or of a DICOM series in whatever order but its results, of all."""
    files = result_files.files_of_scan(scan) if scan.is_dir() else result_files.parts_of(scan)
    parts = "".join(sorted(map(result_files.digest, files)))
    return parts if len(files) < 2 and not scan.is_dir() else hashlib.sha256(parts.encode()).hexdigest()


def _source(scan: Path) -> str:
    """Where a scan lies: of a folder of links to the files of a series, where these lie."""
    links = [file for file in scan.iterdir() if file.is_symlink()] if scan.is_dir() else []
    return str(links[0].resolve().parent if links else scan)


def _size(scan: Path) -> int:
    files = list(scan.iterdir()) if scan.is_dir() else result_files.parts_of(scan)
    return sum(file.stat().st_size for file in files if file.is_file())
