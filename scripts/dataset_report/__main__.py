"""Command line of the report: ``python -m scripts.dataset_report --dataset_dir DATASET``."""

from collections.abc import Sequence
from pathlib import Path

from scripts.dataset.check import check_dataset
from scripts.dataset.datalist_file import datalist_path, files_of, read_datalist, split_names
from scripts.dataset.datalists import load_cases
from scripts.dataset.label_values import organs_of_datalist
from scripts.dataset.problems import DatasetError
from scripts.dataset_report.measure import CaseMeasure, measure_cases
from scripts.dataset_report.page import write_report
from scripts.files.result_files import claim_outputs
from scripts.runtime.plain_errors import command_parser


def report_dataset(
    dataset_dir: str, output: str, organs: Sequence[str] = (), notes: Sequence[str] | None = None
) -> list[CaseMeasure]:
    """Measure all cases of a data set, write the report to an HTML file, and return the measured cases.

    Without organs, all of the data set are shown; without notes of an earlier check, the files are checked here.
    """
    path = datalist_path(dataset_dir)
    content = read_datalist(path)
    shown = list(organs) or organs_of_datalist(content, path)
    splits = {split: load_cases(dataset_dir, split, shown) for split in split_names(content) if content[split]}
    claim_outputs([output], [path, *files_of(case for cases in splits.values() for case in cases)])
    if notes is None:
        try:
            notes = check_dataset(splits, shown).warnings
        except DatasetError as error:
            notes = str(error).splitlines()
    cases = measure_cases(splits, shown)
    title = str(content.get("name") or Path(path).parent.name)
    outliers = write_report(output, title, cases, shown, notes)
    print(f"{output}: {len(cases)} scans, {len(outliers)} things worth a look")
    return cases


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the report that the arguments describe."""
    description = "Write an HTML report of a data set: cases, spacing, Hounsfield units, organs, outliers, pictures."
    parser = command_parser("scripts.dataset_report", description)
    parser.add_argument("--dataset_dir", required=True, help="folder with a dataset.json")
    parser.add_argument("--output", default="runs/dataset_report.html", help="the HTML file (default: %(default)s)")
    parser.add_argument("--organs", nargs="+", default=[], help="organs to show (default: all of the data set)")
    options = parser.parse_args(arguments)
    claim_outputs([options.output], [], new=True)
    report_dataset(options.dataset_dir, options.output, options.organs)


if __name__ == "__main__":
    main()
