"""Segment the organs in CT scans: ``python -m scripts.segment SCAN --output_dir OUT``."""

import sys

from scripts.segment.command_line import main

if __name__ == "__main__":
    sys.exit(main())
