"""The command `python -m development.study report`: print the tables of everything that is stored.

    python -m development.study report --results_dir docs/results/study --costs_dir docs/results/study_costs > report.md

It can be run at any time; arms and seeds that are not there yet are simply not in it. Any other arms compare with
`--references shown_organs`.

What arms cost on one machine, although their runs were made on others, comes from short runs on that machine:

    CUDA_VISIBLE_DEVICES= python -m development.study run --dataset_dir OPENKBP --output_dir runs/costs --seeds 0 \
      --results_dir docs/results/study_costs --train::total_epochs 6 --contrastive::epochs 6
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from development.study.composition import ROOT
from development.study.plan import Plan, check_names, read_plan
from development.study.results import GROUP, Results
from development.study.tables import group_tables
from scripts.runtime.plain_errors import command_parser

REFERENCES = ("slice", "attention_only")

HEAD = """# Report of the study

Printed by `python -m development.study report` from the results in `{results}`. The unit is the patient: scores are
averaged over seeds first, then over patients. Intervals are 95 % percentile bootstraps over patients. "SD of seeds" is
the standard deviation of the seeds' macro means. Differences are paired: the same patients, the same seeds; those of
Dice and surface Dice are in points. p is Wilcoxon's signed-rank test over patients, "p, Holm" the same corrected for
the arms of its table. HD95 leaves out organs that were missed. Core-seconds are those of training, {costs}."""

MEASURED = "computed from what an epoch of each stage took in `{folder}` on {device}"
RECORDED = "as each run took them"


def main(arguments: Sequence[str]) -> int:
    """Print the report."""
    parser = command_parser("development.study report", __doc__)
    parser.add_argument("--results_dir", default="docs/results/study", help="stored results (default: %(default)s)")
    parser.add_argument("--costs_dir", help="results of short runs on one machine (default: none)")
    parser.add_argument("--plan", default="configs/study/plan.yaml", help="the study (default: %(default)s)")
    parser.add_argument("--references", nargs="+", help=f"arms to compare with (default: {' '.join(REFERENCES)})")
    options = parser.parse_args(arguments)
    plan = read_plan(ROOT / options.plan)
    check_names("references", options.references or [], plan.arms)
    costs = Results(Path(options.costs_dir)) if options.costs_dir else None
    print("\n\n".join(report(Results(Path(options.results_dir)), plan, options.references or REFERENCES, costs)))
    return 0


def report(results: Results, plan: Plan, references: Sequence[str], costs: Results | None = None) -> Iterator[str]:
    """The parts of the report in Markdown, arms and regimes in the order of the plan.

    All arms are compared with the references, their costs with those of the first. What epochs cost is read from the
    results of short runs (`costs`), or without these from the stored runs themselves.
    """
    scores, records = results.tables(costs)
    devices = sorted({str(record["device"]) for record in costs.records.values()}) if costs else []
    meaning = MEASURED.format(folder=costs.folder, device=" and ".join(devices)) if costs else RECORDED
    yield HEAD.format(results=results.folder, costs=meaning)
    regimes, stored = [*plan.regimes, *records["regime"]], set(records[GROUP].itertuples(index=False, name=None))
    titles = dict(zip(records["arm"], records["title"], strict=True))
    for regime, labelled in sorted(stored, key=lambda group: (regimes.index(group[0]), -group[1])):
        group = {"regime": regime, "labelled": labelled}
        of_scores, of_records = (
            frame.loc[(frame[GROUP] == pd.Series(group)).all(axis=1)] for frame in (scores, records)
        )
        arms = [name for name in dict.fromkeys([*plan.arms, *titles]) if name in set(of_records["arm"])]
        yield f"## Regime {regime}, {labelled} labelled patients"
        yield from group_tables(of_scores, of_records, {name: titles[name] for name in arms}, references)
