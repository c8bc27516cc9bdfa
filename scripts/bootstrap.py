"""Set the project up on a bare machine, then run its demonstration or its tests: see development/bootstrap.py.

python3 scripts/bootstrap.py demo     # the first result
python3 scripts/bootstrap.py test     # every check and every test
"""

import runpy
from pathlib import Path

if __name__ == "__main__":
    runpy.run_path(str(Path(__file__).resolve().parents[1] / "development/bootstrap.py"), run_name="__main__")
