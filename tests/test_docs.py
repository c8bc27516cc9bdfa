"""The documentation against the repository: links, commands, overlays, settings and their defaults."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from config_compositions import ROOT, components, load, references
from doc_pages import PAGES, README, bundle_runs, own_overlays, text_of
from monai.bundle import ConfigParser
from monai.bundle.config_item import ConfigComponent

from scripts.dataset.problems import Kind
from scripts.evaluation.summary import COLUMNS

Compose = Callable[[tuple[str, ...]], ConfigParser]
REFERENCE = ROOT / "docs/reference/configs.md"
TRAIN = "configs/train.yaml"
WORKFLOWS = [TRAIN, "configs/inference.yaml", "configs/evaluate.yaml"]

EXCLUDED = {
    # Which key of a case each transform reads: wiring, the same in every bundle.
    r"(validate::)?(pre|post)processing::.*",
    r"scores_to_labels::(keys|organs|one_piece)",
    r"(contrastive|train)::trainer::stage",
    r"begun::anew",
    r"initialize::_disabled_",
    # Given by the data (3D, one channel) and by the method (one organ per query).
    r"coarse_network::spatial_dims",
    # Scans differ in size: one at a time.
    r"(validate::)?dataloader::batch_size",
}

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@pytest.fixture(scope="module")
def compose(tmp_path_factory: pytest.TempPathFactory) -> Compose:
    """The composition of files of the repository and of the overlays in the pages; nothing is instantiated."""
    folder = tmp_path_factory.mktemp("overlays")
    written = {name: folder / Path(name).name for name in own_overlays()}
    for name, content in own_overlays().items():
        written[name].write_text(yaml.safe_dump(content), encoding="utf-8")

    @cache
    def composed(files: tuple[str, ...]) -> ConfigParser:
        parser = ConfigParser()
        parser.read_config([str(written.get(name, ROOT / name)) for name in files])
        parser.parse()
        return parser

    return composed


def unresolved(parser: ConfigParser) -> list[str]:
    """References to ids that a composition does not have."""
    texts = [str(item.get_config()) for item in parser.ref_resolver.items.values()]
    return sorted({ref for text in texts for ref in references(text) if ref not in parser})


def parts(content: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a config with its id; a list of plain values is one value."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from parts(value, f"{path}::{key}" if path else str(key))
    elif isinstance(content, list) and any(isinstance(item, dict | list) for item in content):
        for number, value in enumerate(content):
            yield from parts(value, f"{path}::{number}")
    else:
        yield path, content


def is_plain(key: str, value: Any) -> bool:
    """Whether a value is one that a user sets: no class, no reference, no expression, no list of these."""
    items = value if isinstance(value, list) else [value]
    return key.rpartition("::")[2] not in ("_target_", "_mode_") and not any(str(item)[:1] in "@$%" for item in items)


@cache
def documented() -> dict[str, dict[str, str]]:
    """The tables of the settings: section (name of a config file, or a title) -> id -> default as written."""
    sections: dict[str, dict[str, str]] = {}
    for part in re.split(r"^## ", text_of(REFERENCE), flags=re.M)[1:]:
        rows = re.findall(r"^\| `([^`]+)` \| `([^`]+)`[^|]*\|[^|]*\|$", part, re.M)
        assert len({key for key, _ in rows}) == len(rows), f"{part.splitlines()[0]}: an id is listed twice"
        sections[part.splitlines()[0]] = dict(rows)
    return sections


def value_of(default: str) -> Any:
    """A default as YAML reads it; expressions stay text."""
    return default if default[:1] in "@$%" else yaml.safe_load(default)


@every_page
def test_every_relative_link_and_picture_leads_to_a_file(page: Path) -> None:
    targets = re.findall(r"\]\(([^)\s#]+)[^)\s]*\)", text_of(page))
    assert [name for name in targets if "://" not in name and not (page.parent / name).exists()] == []


@every_page
def test_every_page_ends_with_the_next_step(page: Path) -> None:
    if page.name in ("results.md", "README.md") and page != README:
        pytest.skip("the model card and the results are read by themselves")
    assert re.search(r"^Next: .*\]\(", text_of(page).rstrip().rsplit("\n\n", 1)[-1], re.M)


def test_every_page_is_reached_from_the_readme() -> None:
    indexes = (README, ROOT / "docs/results.md")
    linked = {
        (page.parent / target).resolve()
        for page in indexes
        for target in re.findall(r"\]\(([^)#\s]+\.md)\)", text_of(page))
    }
    assert [str(page) for page in PAGES if page not in linked and page.name != "README.md"] == []


@every_page
def test_no_page_names_a_path_of_some_machine_or_an_unfinished_place(page: Path) -> None:
    text = text_of(page)
    assert re.findall(r"(?<![\w.:/)'])/(?:home|root|tmp|work|opt|mnt|Users|usr|data)\b\S*", text) == []
    assert re.findall(r"\b(?:TODO|FIXME|TBD|XXX)\b", text) == []


@pytest.mark.parametrize(("run_id", "files", "overrides"), bundle_runs())
def test_every_bundle_command_composes(
    run_id: str, files: tuple[str, ...], overrides: list[str], compose: Compose
) -> None:
    own = own_overlays()
    assert [name for name in files if name not in own and not (ROOT / name).is_file()] == []
    assert files[0] in WORKFLOWS and len(files) <= 2, "a workflow, and at most one overlay"
    parser = compose(files)
    assert unresolved(parser) == []
    assert [name for name in (run_id, *overrides) if name not in parser] == []


@pytest.mark.parametrize("name", own_overlays())
def test_every_overlay_of_the_pages_composes_and_names_arguments_that_exist(name: str, compose: Compose) -> None:
    parser = compose((TRAIN, name))
    assert unresolved(parser) == []
    changed = {key.removeprefix("+").split("::")[0] for key in own_overlays()[name]}
    for path, component in components(parser.config):
        if path.split("::")[0] in changed:
            given = {key for key in component if not key.startswith("_")}
            arguments = inspect.signature(target_at(parser, path)).parameters
            variable = any(argument.kind is argument.VAR_KEYWORD for argument in arguments.values())
            assert variable or given <= set(arguments), path


@every_page
def test_no_log_was_pasted_with_a_table(page: Path) -> None:
    logged = re.compile(r"%\|[ \u2580-\u259f]|\d - (INFO|WARNING) -")
    assert [line for line in text_of(page).splitlines() if logged.search(line)] == []


@every_page
def test_every_module_and_script_of_a_command_exists(page: Path) -> None:
    modules = set(re.findall(r"python3? -m ((?:scripts|development)[\w.]*)", text_of(page)))
    assert [name for name in modules if importlib.util.find_spec(name) is None] == []
    for script in set(re.findall(r"python3? (\w[\w/]*\.py)", text_of(page))):
        assert (ROOT / script).is_file()


@every_page
def test_every_path_of_the_repository_in_code_type_exists(page: Path) -> None:
    named = set(re.findall(r"`((?:configs|scripts|tests|development)/[\w./*]*)`", text_of(page)))
    own = own_overlays()
    assert [name for name in named if name not in own and not list(ROOT.glob(name.rstrip("/")))] == []


@pytest.mark.parametrize("file", WORKFLOWS)
def test_the_reference_lists_every_setting_of_a_config(file: str) -> None:
    settings = {key for key, value in parts(load(file)) if is_plain(key, value)}
    excluded = {key for key in settings if any(re.fullmatch(pattern, key) for pattern in EXCLUDED)}
    listed = documented()[file].keys() | documented()[TRAIN].keys()  # the predictor's block is a copy of train.yaml's
    assert sorted(settings - excluded - listed) == []


@pytest.mark.parametrize("file", WORKFLOWS)
def test_the_reference_gives_the_defaults_of_the_config(file: str) -> None:
    there = dict(parts(load(file)))
    wrong = {key: default for key, default in documented()[file].items() if there.get(key, key) != value_of(default)}
    assert wrong == {}


@pytest.mark.parametrize("pattern", sorted(EXCLUDED))
def test_no_exclusion_is_left_over(pattern: str) -> None:
    keys = [key for file in WORKFLOWS for key, value in parts(load(file)) if is_plain(key, value)]
    assert any(re.fullmatch(pattern, key) for key in keys)


@pytest.mark.parametrize(("key", "default"), documented()["Further arguments"].items())
def test_a_further_argument_has_the_default_of_the_code(key: str, default: str, compose: Compose) -> None:
    parser = compose((TRAIN,))
    component, _, argument = key.rpartition("::")
    assert key not in parser, "it is set in a config: list it there"
    found = inspect.signature(target_at(parser, component)).parameters[argument].default
    assert (list(found) if isinstance(found, tuple) else found) == value_of(default)


def target_at(parser: ConfigParser, path: str) -> Any:
    """The class or function that the component of this id names."""
    name = str(ConfigComponent(config=parser[path], id="", locator=parser.locator).resolve_module_name())
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def test_the_run_ids_of_the_reference_are_in_the_files_named(compose: Compose) -> None:
    section = text_of(REFERENCE).split("## Run ids")[1]
    rows = re.findall(r"^\| (`.*?) \| `(configs/\w+\.yaml)` \|", section, re.M)
    listed = [(run_id, file) for ids, file in rows for run_id in re.findall(r"`([^`]+)`", ids)]
    assert len(listed) == 6
    assert [run_id for run_id, file in listed if run_id not in compose((file,))] == []


def test_the_page_on_files_lists_the_columns_of_the_scores() -> None:
    section = text_of(ROOT / "docs/reference/files.md").split("## Evaluation")[1].split("`summary.csv`")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \|", section, re.M)) == COLUMNS


def test_the_page_on_data_lists_what_the_check_refuses() -> None:
    page = text_of(ROOT / "docs/how_to/own_data.md")
    internal = {Kind.UNKNOWN_ORGAN}  # the loader of cases reports it first, for the whole dataset.json
    warnings = {Kind.NO_AIR, Kind.NO_ORIENTATION, Kind.NOT_ANNOTATED, Kind.ONE_EXAMPLE, Kind.UNUSED_PHASE}
    warnings |= {Kind.SHIFTED, Kind.SMALL, Kind.CONVERTED, Kind.ALMOST}
    photographs = {Kind.NOT_RGB, Kind.NOT_INDICES, Kind.PALETTE}
    refused = set(Kind) - warnings - internal - photographs
    assert [kind.title for kind in refused if f"| {kind.title} |" not in page] == []
    page = text_of(ROOT / "docs/how_to/voc.md")
    assert [kind.title for kind in photographs if f"| {kind.title} |" not in page] == []
