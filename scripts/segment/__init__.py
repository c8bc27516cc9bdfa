"""The command line for people who know no MONAI: ``python -m scripts.segment SCAN``; it runs the inference workflow."""
