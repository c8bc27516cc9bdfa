"""The command `python -m development.study report`: tables and figures of everything that is stored.

    python -m development.study report --results_dir docs/results/study --output_dir docs/study

It can be run at any time; arms and seeds that are not there yet are simply not in it. Any other two arms compare with
`--references shown_organs --output_dir runs/report`, which leaves the stored report as it is.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from development.study.composition import ROOT
from development.study.figures import save_costs, save_forest, save_organs
from development.study.plan import Plan, check_names, read_plan
from development.study.results import GROUP, read_costs, read_results
from development.study.tables import (
    costs_markdown,
    costs_table,
    differences_markdown,
    differences_table,
    organs_markdown,
    scores_markdown,
    scores_table,
)
from scripts.evaluation.summary import METRICS
from scripts.files.atomic_write import replacing

REFERENCES = ("slice", "attention_only")
PAGE = "report.md"

HEAD = """# Report of the study

Printed by `python -m development.study report` from the results in `{results}`; not written by hand.

How to read it. The unit is the patient: scores are averaged over the seeds first, then over patients. **95 %** is the
percentile bootstrap interval over patients. **SD of seeds** is the standard deviation of the seeds' macro means, **SD
of patients** that of the patients' means. Differences are paired: the same patients, the same seeds. **p** is
Wilcoxon's signed-rank test over patients, **p, Holm** the same corrected for the arms of its table. Differences of Dice
and surface Dice are in points. HD95 leaves out the organs that were missed. Core-seconds are
{costs}.
"""

MEASURED = (
    "the epochs of each stage times what an epoch was measured to cost on one core of {device}\n"
    "(`python -m development.study costs`), wherever the runs were made"
)
RECORDED = "those of the training processes"

FOOT = "\nNext: [rerun the study](../how_to/study.md), or add an arm.\n"


def main(arguments: Sequence[str]) -> int:
    """Write the report."""
    parser = argparse.ArgumentParser(
        prog="python -m development.study report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--results_dir", default="docs/results/study", help="stored results (default: %(default)s)")
    parser.add_argument("--output_dir", default="docs/study", help="folder of the report (default: %(default)s)")
    parser.add_argument("--plan", default="configs/study/plan.yaml", help="the study (default: %(default)s)")
    parser.add_argument("--references", nargs="+", help=f"arms to compare with (default: {' '.join(REFERENCES)})")
    options = parser.parse_args(arguments)
    plan = read_plan(ROOT / options.plan)
    check_names("references", options.references or [], plan.arms)
    results, output = Path(options.results_dir), Path(options.output_dir)
    page = write_report(results, output, plan, options.references or REFERENCES)
    print(f"written: {page}")
    return 0


def write_report(results_dir: Path, output_dir: Path, plan: Plan, references: Sequence[str] = REFERENCES) -> Path:
    """Write report.md, scores.csv, differences.csv, costs.csv and the figures.

    Args:
        results_dir: stored results.
        output_dir: folder to write to.
        plan: gives the order of arms and regimes.
        references: arms that all are compared with; costs with the first.

    Returns:
        The page.
    """
    scores, records = read_results(results_dir)
    titles = dict(zip(records["arm"], records["title"], strict=True))
    titles = {name: titles[name] for name in [*plan.arms, *titles] if name in titles}
    costs = read_costs(results_dir)
    meaning = RECORDED if costs is None else MEASURED.format(device=costs["device"])
    text = [HEAD.format(results=results_dir.as_posix(), costs=meaning)]
    tables: dict[str, list[pd.DataFrame]] = {"scores": [], "differences": [], "costs": []}
    for regime, labelled in groups(scores, plan):
        chosen = [_of_group(frame, regime, labelled) for frame in (scores, records)]
        arms = [arm for arm in titles if arm in set(chosen[0]["arm"])]
        made = {
            "scores": scores_table(chosen[0], arms),
            "differences": differences_table(chosen[0], arms, references),
            "costs": costs_table(chosen[1], arms, references[0]),
        }
        for name, table in made.items():
            tables[name].append(table.assign(regime=regime, labelled=labelled))
        heading = f"Regime {regime}, {labelled} labelled patients"
        text.append(_section(heading, f"{regime}_{labelled}", made, titles, references))
        _save_figures(output_dir, f"{regime}_{labelled}", heading, chosen[0], made, arms, titles, references)
    for name, parts in tables.items():
        frame = pd.concat(parts, ignore_index=True)
        with replacing(output_dir / f"{name}.csv") as temporary:
            frame[[*GROUP, *(column for column in frame if column not in GROUP)]].to_csv(temporary, index=False)
    with replacing(output_dir / PAGE) as temporary:
        temporary.write_text("\n".join(text) + FOOT, encoding="utf-8")
    return output_dir / PAGE


def groups(scores: pd.DataFrame, plan: Plan) -> list[tuple[str, int]]:
    """Groups of runs that are compared with one another: regimes as the plan has them, most labelled patients first."""
    order = {name: place for place, name in enumerate(plan.regimes)}
    found = {(str(regime), int(labelled)) for regime, labelled in scores[GROUP].drop_duplicates().to_numpy()}
    return sorted(found, key=lambda group: (order.get(group[0], len(order)), group[0], -group[1]))


def _of_group(frame: pd.DataFrame, regime: str, labelled: int) -> pd.DataFrame:
    return frame[(frame["regime"] == regime) & (frame["labelled"] == labelled)]


def _section(
    heading: str, name: str, made: dict[str, pd.DataFrame], titles: dict[str, str], references: Sequence[str]
) -> str:
    """The part of the page about one group."""
    lines = [f"\n## {heading}\n", scores_markdown(made["scores"], titles)]
    if not made["differences"].empty:  # an arm by itself differs from nothing
        lines += [f"\n![Forest plot of the paired differences in macro Dice](forest_{name}.png)\n"]
    for reference in references:
        if reference in set(made["differences"]["reference"]):
            lines += [f"\nAgainst **{titles[reference]}**:\n"]
            lines += [f"{differences_markdown(made['differences'], titles, reference, one)}\n" for one in METRICS]
    lines += ["\n### Organs\n", f"![Dice of every organ and arm](organs_{name}.png)\n"]
    lines += [f"{organs_markdown(made['scores'], titles, metric)}\n" for metric in METRICS]
    lines += ["\n### Core-seconds of training\n", costs_markdown(made["costs"], titles)]
    return "\n".join([*lines, f"\n![Core-seconds of every arm](costs_{name}.png)\n"])


def _save_figures(
    output_dir: Path,
    name: str,
    heading: str,
    scores: pd.DataFrame,
    made: dict[str, pd.DataFrame],
    arms: Sequence[str],
    titles: dict[str, str],
    references: Sequence[str],
) -> None:
    if not made["differences"].empty:
        save_forest(made["differences"], references, titles, output_dir / f"forest_{name}.png", heading)
    save_organs(scores, arms, titles, output_dir / f"organs_{name}.png", heading)
    save_costs(made["costs"], titles, output_dir / f"costs_{name}.png", heading)
