"""For people who know no MONAI: the inference workflow as a command and as a call in Python.

__main__: ``python -m scripts.segment SCAN``; segmenter: the call; workflow: what both run, by the inference config.
"""
