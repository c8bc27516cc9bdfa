"""The study's commands: run, report, embed, quality, broken and probe."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from development.study import broken, embed_command, embedding, quality, report_command, run_command

COMMANDS = {
    "run": run_command.main,
    "report": report_command.main,
    "embed": embed_command.main,
    "quality": quality.main,
    "broken": broken.main,
    "probe": embedding.main,
}
USAGE = f"python -m development.study {{{','.join(COMMANDS)}}} ...; COMMAND --help describes it."


def main(arguments: Sequence[str] | None = None) -> int:
    """Hand over to the command."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] not in COMMANDS:
        asked_for_help = bool(given) and given[0] in ("-h", "--help")
        print(USAGE, file=sys.stdout if asked_for_help else sys.stderr)
        return 0 if asked_for_help else 2
    return COMMANDS[given[0]](given[1:])


if __name__ == "__main__":
    sys.exit(main())
