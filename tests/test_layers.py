"""Folders of scripts/ are layers: no folder imports one above it, and nothing imports from development/."""

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import scripts

ROOT = Path(__file__).resolve().parents[1]
LAYERS = re.findall(r"^    (\w+)/ ", scripts.__doc__ or "", flags=re.MULTILINE)
"""From the bottom up, as the package's own documentation lists them."""


def imports(path: Path) -> list[tuple[int, str]]:
    """Line and module of every import of the project's own code, wherever in the file it stands."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        found += [(node.lineno, name) for name in names if name.split(".")[0] in ("scripts", "development")]
    return found


def upward_imports(root: Path) -> list[str]:
    wrong = []
    for path in sorted((root / "scripts").glob("*/**/*.py")):
        own = path.relative_to(root / "scripts").parts[0]
        for line, name in imports(path):
            top, folder = (*name.split("."), "")[:2]
            if top == "development" or (folder in LAYERS and LAYERS.index(folder) > LAYERS.index(own)):
                wrong.append(f"{path.relative_to(root)}:{line} imports {name}, which lies above {own}/")
    return wrong


def modules_in_circles(root: Path) -> list[str]:
    """Modules that need each other to be imported first; what functions and type checkers import does not count."""
    graph = {}
    for path in sorted(root.glob("scripts/**/*.py")):
        top = ast.parse(path.read_text(encoding="utf-8")).body
        names = [f"{node.module}.{alias.name}" for node in top if isinstance(node, ast.ImportFrom) and node.module
                 for alias in node.names]  # fmt: skip
        files = {root / f"{name.replace('.', '/')}.py" for full in names for name in (full, full.rpartition(".")[0])}
        graph[path] = {file for file in files if file.is_file()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        return [str(path.relative_to(root)) for path in circle.args[1]]
    return []


def test_every_folder_has_its_layer():
    folders = {path.parent.name for path in (ROOT / "scripts").glob("*/__init__.py")}
    assert folders == set(LAYERS)


def test_no_folder_imports_one_above_it():
    assert not (wrong := upward_imports(ROOT)), "\n".join(wrong)


def test_an_upward_import_is_found_with_its_line(tmp_path):
    folder = tmp_path / "scripts" / LAYERS[0]
    folder.mkdir(parents=True)
    (folder / "bad.py").write_text(f"import os\nfrom scripts.{LAYERS[1]} import x\nimport development.demo\n")
    first, second = upward_imports(tmp_path)
    assert first == f"scripts/{LAYERS[0]}/bad.py:2 imports scripts.{LAYERS[1]}.x, which lies above {LAYERS[0]}/"
    assert "bad.py:3 imports development.demo" in second


def test_no_module_needs_itself_to_be_imported(tmp_path):
    assert modules_in_circles(ROOT) == []
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts/a.py").write_text("from scripts.b import x\n")
    (tmp_path / "scripts/b.py").write_text("from scripts import a\n")
    assert set(modules_in_circles(tmp_path)) == {"scripts/a.py", "scripts/b.py"}


def test_a_command_is_started_after_all_that_its_module_defines():
    early = []
    for path in sorted(path for top in ("scripts", "development") for path in (ROOT / top).rglob("*.py")):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        guards = [place for place, node in enumerate(body) if isinstance(node, ast.If)]
        started = [place for place in guards if ast.unparse(body[place].test).startswith("__name__")]
        early += [str(path.relative_to(ROOT)) for place in started if place != len(body) - 1]
    assert early == []
