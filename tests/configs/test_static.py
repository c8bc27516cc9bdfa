"""What can be wrong in a config without running it. Milliseconds each: nothing is instantiated."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from config_compositions import (
    BASES,
    CONFIGS,
    INFERENCE,
    OVERLAYS,
    ROOT,
    StrictLoader,
    commands,
    components,
    composed,
    compositions,
    header,
    leaves,
    load,
    references,
)
from monai.bundle import ComponentLocator, ConfigParser
from monai.bundle.config_item import ConfigComponent

from scripts.runtime.composition import check_overlays

EXPRESSION_LENGTH = 80
FORBIDDEN_NODES = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.Await, ast.NamedExpr)
FORBIDDEN_CALLS = {"print", "open", "exec", "eval", "__import__", "compile", "input"}
LOCATOR = ComponentLocator()


def named(files: tuple[str, ...]) -> str:
    return "+".join(Path(name).stem for name in files)


every_config = pytest.mark.parametrize("name", CONFIGS)
every_overlay = pytest.mark.parametrize("name", OVERLAYS)
every_composition = pytest.mark.parametrize("files", compositions(), ids=named)


def target_of(component: dict[str, Any]) -> Any:
    """The class or function that a component names, found as MONAI finds it."""
    item = ConfigComponent(config=component, id="", locator=LOCATOR)
    module_name = item.resolve_module_name()
    module, _, attribute = str(module_name).rpartition(".")
    return getattr(__import__(module, fromlist=[attribute]), attribute)


def arguments_of(target: Any) -> set[str]:
    """Names of the arguments; those of the base classes too where a class hands on what it does not name."""
    names: set[str] = set()
    is_class = inspect.isclass(target)
    # __init__ itself: of a class with __new__, such as MONAI's dictionary transforms, Python shows that one's.
    constructors = [vars(part)["__init__"] for part in target.__mro__ if "__init__" in vars(part)] if is_class else []
    for part in constructors or [target]:
        parameters = inspect.signature(part).parameters
        names |= set(parameters)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            break
    return names


@every_composition
def test_every_reference_exists(files: tuple[str, ...]) -> None:
    parser = composed(files)
    missing = {
        f"{place}: {wanted}"
        for place, value in leaves(parser.config)
        if isinstance(value, str)
        for wanted in references(value)
        if wanted not in parser
    }
    assert missing == set()


@every_composition
def test_every_target_exists_and_takes_the_arguments_that_are_given(files: tuple[str, ...]) -> None:
    for place, component in components(composed(files).config):
        given = {key for key in component if not (key[0] == "_" and key[-1] == "_")}
        unknown = given - arguments_of(target_of(component))
        assert not unknown, f"{place} ({component['_target_']})"


@every_composition
def test_every_component_of_our_own_gets_the_arguments_that_it_needs(files: tuple[str, ...]) -> None:
    for place, component in components(composed(files).config):
        if component["_target_"].startswith("scripts.") and component.get("_mode_", "default") == "default":
            given = {key: value for key, value in component.items() if key[0] != "_"}
            try:
                inspect.signature(target_of(component)).bind(**given)  # *args, **kwargs of a base class take anything
            except TypeError as error:
                pytest.fail(f"{place} ({component['_target_']}): {error}")


@every_overlay
def test_an_overlay_only_changes_what_exists_below_it(name: str) -> None:
    files = commands(name)[0].files
    check_overlays([str(ROOT / file) for file in files[: files.index(name) + 1]])


def overlay(folder: Path, text: str) -> str:
    path = folder / "own.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("orgams: []", "orgams, did you mean organs?"),
        ("train::epoch: 1", "train::epoch, did you mean epochs?"),
        ("train#epohcs: 1", "train::epohcs, did you mean epochs?"),
        ("+contrastive: {temperat: 0.2}", "contrastive::temperat, did you mean temperature?"),
        ("validaton_limit: 2", "validaton_limit, did you mean validation_limit?"),
    ],
)
@pytest.mark.parametrize("base", ["configs/train.yaml", "configs/train.json"])
def test_a_misspelt_overlay_key_is_refused(tmp_path: Path, base: str, wrong: str, near: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"own.yaml: nothing uses {near}")):
        check_overlays([str(ROOT / base), overlay(tmp_path, wrong)])


@pytest.mark.parametrize(
    "right",
    [
        "margin: 3\ntrain::epochs: '@margin'",
        "train::epoch: 3\ntrain::epochs: '$@train#epoch + 1'",
        "trainings: {_target_: torch.optim.SGD}\ntrain::optimizer: '%trainings'",
        "my_run: ['@prepared']\ntrain::evaluate_only: 1\nfinalize: []\nimports: ['$import numpy']",
        "+tracking: {_disabled_: true}\ntrain::handlers::0::_disabled_: true",
        "network_def#passes: 2\n+decoder: {width: 48}",
        "encoder: {_target_: monai.networks.nets.EfficientNetBN, model_name: b0}\nencoder::in_channels: 3",
    ],
)
def test_an_overlay_may_add_what_is_used_and_what_is_like_nothing_below_it(tmp_path: Path, right: str) -> None:
    check_overlays([str(ROOT / "configs/train.yaml"), overlay(tmp_path, right)])


def test_an_overlay_of_a_training_may_be_laid_on_evaluation_and_one_run_id_be_new(tmp_path: Path) -> None:
    check_overlays([str(ROOT / "configs/evaluate.yaml"), str(ROOT / "configs/data/abdomen.yaml")])
    check_overlays(
        [str(ROOT / "configs/inference.yaml"), overlay(tmp_path, "phases: [a]\norgams: []")], known=["orgams"]
    )
    check_overlays([str(ROOT / "configs/train.yaml"), overlay(tmp_path, "orgams: []")], more={"organs": "@orgams"})


@every_overlay
def test_an_overlay_can_be_merged_without_its_base_and_ends_there(name: str) -> None:
    content = ConfigParser.load_config_files(str(ROOT / name))  # a nested id whose parents do not exist is a KeyError
    assert content["initialize"] == {"_target_": "scripts.runtime.composition.require_base"}


@pytest.mark.parametrize("name", BASES)
def test_a_base_disables_the_step_of_its_overlays(name: str) -> None:
    assert load(name)["initialize"] == {"_target_": "scripts.runtime.composition.require_base", "_disabled_": True}


@every_config
def test_no_number_hides_in_a_string(name: str) -> None:
    # YAML 1.1 reads 1e-4 as text; it must be written 1.0e-4.
    def is_number(value: Any) -> bool:
        try:
            float(value)
        except ValueError:
            return False
        return True

    strings = [(place, value) for place, value in leaves(load(name)) if isinstance(value, str)]
    assert [(place, value) for place, value in strings if is_number(value)] == []


def expression_faults(text: str) -> list[str]:
    """What house style forbids in a `$` expression."""
    tree = ast.parse(re.sub(r"@[\w:]+", "reference", text[1:]), mode="eval")
    faults = [type(node).__name__ for node in ast.walk(tree) if isinstance(node, FORBIDDEN_NODES)]
    faults += [node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id in FORBIDDEN_CALLS]
    return faults + ([f"{len(text)} characters"] if len(text) > EXPRESSION_LENGTH else [])


@every_config
def test_expressions_are_short_and_hide_no_logic(name: str) -> None:
    expressions = [(place, text) for place, text in leaves(load(name)) if isinstance(text, str) and text[:1] == "$"]
    assert [(place, faults) for place, text in expressions if (faults := expression_faults(text))] == []


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("$@a::b * 2 + len(@c)", []),
        ("$[x for x in @a]", ["ListComp"]),
        ("$(lambda x: x)(@a)", ["Lambda"]),
        ("$print(@a)", ["print"]),
        ("$" + "1+" * 45 + "1", ["92 characters"]),
    ],
)
def test_what_counts_as_logic_in_an_expression(text: str, faults: list[str]) -> None:
    assert expression_faults(text) == faults


@every_config
def test_no_path_of_one_machine(name: str) -> None:
    strings = [value for _, value in leaves(load(name)) if isinstance(value, str)]
    assert [value for value in strings if value.startswith(("/", "~")) or re.match(r"[A-Za-z]:\\", value)] == []
    assert not re.search(r"(?<![\w'.\]])/(?:home|work|tmp|mnt|root|data|Users)/", (ROOT / name).read_text("utf-8"))


def test_a_data_overlay_is_at_most_fifty_lines() -> None:
    for name in CONFIGS:
        if "/data/" in name:
            assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) <= 50


@every_overlay
def test_a_header_says_what_the_overlay_lies_on_and_gives_a_command_that_uses_it(name: str) -> None:
    assert commands(name)
    for command in commands(name):
        base, *others = command.files
        assert base in BASES and others == [name]
        assert f"Overrides {Path(base).name}" in " ".join(header(name).split())


@every_config
def test_the_command_in_a_header_can_be_run(name: str) -> None:
    for command in commands(name):
        parser = composed(command.files)
        assert command.run_id in parser
        assert [option for option in command.overrides if option not in parser] == []


@every_config
def test_no_key_is_given_twice(name: str) -> None:
    assert load(name)


def test_a_key_given_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="line 2: twice lr"):
        StrictLoader("train:\n  lr: 1\n  lr: 2\n").get_single_data()


@every_composition
def test_configs_compose_from_any_folder(
    files: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    parser = ConfigParser()
    parser.read_config([str(ROOT / name) for name in files])
    parser["bundle_root"] = str(ROOT)
    parser.parse()
    assert parser.get_parsed_content("output_dir").startswith(str(ROOT / "runs"))
    moved: Any = parser.config
    assert moved.pop("bundle_root") == str(ROOT)
    assert moved == {key: composed(files)[key] for key in composed(files).config if key != "bundle_root"}


@every_config
def test_no_string_has_a_hash_sign_which_monai_turns_into_two_colons(name: str) -> None:
    assert [place for place, value in leaves(load(name)) if isinstance(value, str) and "#" in value] == []


@pytest.mark.parametrize(("organs", "slices"), [(7, 96), (15, 96), (16, 64), (26, 64)])
def test_many_organs_are_computed_in_lower_tiles_since_a_tile_holds_maps_of_all(organs: int, slices: int) -> None:
    parser = ConfigParser(load(INFERENCE))
    parser["organs"] = [f"organ_{number}" for number in range(organs)]
    assert parser.get_parsed_content("coarse_segmenter::tile") == [96, 96, slices]
