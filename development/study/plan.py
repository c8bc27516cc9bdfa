"""What a study consists of: arms, regimes, numbers of labelled patients, seeds."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import yaml

COARSE_STAGE = "coarse_stage"
"""The arm whose training the arms with `coarse: shared` begin with."""

NO_REGIME = "any"
"""Regime of an arm that has no coarse stage: it is run once for all regimes."""

PLAN_KEYS = {"configs", "evaluation", "settings", "regimes", "labelled", "seeds", "arms"}


@dataclass(frozen=True)
class Arm:
    """One method of the study.

    Its folders have its name, tables and figures its title. The overlays override the config files of the study; the
    settings, by config id, override those of study and regime, and `regime_settings` those in one regime.

    Attributes:
        coarse: "shared" (the arm begins with the coarse stage of its group), "own" (it trains one) or "none".
        members: The arms of which this one is only an evaluation: one arm, whose weights get other settings, or a
            coarse stage and another arm, whose probabilities are averaged.
        few_labels_only: Whether the arm is left out where all patients are labelled.
    """

    name: str
    title: str
    overlays: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    regime_settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    coarse: str = "shared"
    members: tuple[str, ...] = ()
    few_labels_only: bool = False


@dataclass(frozen=True)
class Run:
    """One training and its evaluation."""

    arm: str
    regime: str
    labelled: int
    seed: int

    @property
    def name(self) -> str:
        """Its folder below that of all runs, and its name in the results."""
        return f"{self.regime}/{self.labelled}/{self.arm}/seed{self.seed}"


@dataclass(frozen=True)
class Plan:
    """A study as its YAML states it."""

    configs: Sequence[str]
    evaluation: str
    settings: Mapping[str, Any]
    regimes: Mapping[str, Mapping[str, Any]]
    labelled: Sequence[int | str]
    seeds: Sequence[int]
    arms: Mapping[str, Arm]

    def needs(self, run: Run) -> list[Run]:
        """Runs that have to be done before this one."""
        arm = self.arms[run.arm]
        names = list(arm.members) + ([COARSE_STAGE] if arm.coarse == "shared" and not arm.members else [])
        return [self.run_of(name, run.regime, run.labelled, run.seed) for name in names]

    def run_of(self, arm: str, regime: str, labelled: int, seed: int) -> Run:
        """The run of an arm in a group; one without a coarse stage is the same in every regime."""
        return Run(arm, NO_REGIME if self.arms[arm].coarse == "none" else regime, labelled, seed)

    def runs(
        self,
        arms: Sequence[str],
        regimes: Sequence[str],
        labelled: Sequence[int],
        seeds: Sequence[int],
        num_labelled: int,
    ) -> list[Run]:
        """All runs, each behind those that it needs: by number of labelled patients, regime, seed, and arm.

        Arms for few labels are left out where all `num_labelled` patients keep theirs.
        """
        runs = [
            self.run_of(name, regime, count, seed)
            for count, regime, seed, name in product(labelled, regimes, seeds, arms)
            if not (self.arms[name].few_labels_only and count >= num_labelled)
        ]
        return list(dict.fromkeys(one for run in runs for one in self._with_needs(run)))

    def _with_needs(self, run: Run) -> Iterator[Run]:
        for needed in self.needs(run):
            yield from self._with_needs(needed)
        yield run


def read_plan(path: str | Path) -> Plan:
    """Read a study's YAML.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a key is missing, unknown, or an arm names something that is not there.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"no study at {path}: give --plan a YAML file such as configs/study/plan.yaml.")
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or set(content) != PLAN_KEYS:
        given = sorted(content) if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"{path} has the keys {given}, a study has {sorted(PLAN_KEYS)}.")
    arms = {name: _arm(str(name), entry, str(path)) for name, entry in content["arms"].items()}
    regimes = {str(name): settings or {} for name, settings in content["regimes"].items()}
    plan = Plan(**{**content, "settings": content["settings"] or {}, "regimes": regimes, "arms": arms})
    _check(plan, str(path))
    return plan


def check_names(option: str, chosen: Iterable[str], known: Collection[str]) -> None:
    """Raise ValueError if a command's option names what is not there."""
    if wrong := [name for name in chosen if name not in known]:
        raise ValueError(f"--{option} {' '.join(wrong)}: the study has {', '.join(known)}.")


def _arm(name: str, entry: Mapping[str, Any] | None, path: str) -> Arm:
    given = dict(entry or {})
    unknown = sorted(set(given) - set(Arm.__dataclass_fields__) | ({"name"} & set(given)))
    if unknown:
        known = sorted(set(Arm.__dataclass_fields__) - {"name"})
        raise ValueError(f"{path}: the arm {name} has the keys {unknown}, which do not exist; known are {known}.")
    lists = {key: tuple(given.pop(key, None) or ()) for key in ("overlays", "members")}
    mappings = {key: given.pop(key, None) or {} for key in ("settings", "regime_settings")}
    return Arm(**{"name": name, "title": name.replace("_", " "), **given, **lists, **mappings})


def _check(plan: Plan, path: str) -> None:
    if COARSE_STAGE not in plan.arms and any(arm.coarse == "shared" for arm in plan.arms.values()):
        raise ValueError(f"{path}: arms share a coarse stage, and there is no arm {COARSE_STAGE}, which trains it.")
    if NO_REGIME in plan.regimes:
        raise ValueError(f"{path}: no regime may be called '{NO_REGIME}', the folder of arms without a coarse stage.")
    for arm in plan.arms.values():
        if arm.coarse not in ("shared", "own", "none"):
            raise ValueError(f"{path}: {arm.name} has coarse '{arm.coarse}', expected shared, own or none.")
        if len(arm.members) > 2:
            raise ValueError(f"{path}: {arm.name} has the members {list(arm.members)}; an arm has one or two, or none.")
        for member in arm.members:
            if member not in plan.arms:
                raise ValueError(f"{path}: {arm.name} has the member '{member}', which is no arm of {list(plan.arms)}.")
        if arm.coarse == "none" and arm.regime_settings:
            raise ValueError(f"{path}: {arm.name} has no coarse stage, so that it runs in no regime: use settings.")
        for regime in arm.regime_settings:
            if regime not in plan.regimes:
                raise ValueError(f"{path}: {arm.name} has settings for the regime '{regime}', which is not there.")
