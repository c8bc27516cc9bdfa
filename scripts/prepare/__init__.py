"""From data as they lie on a disk to a dataset.json that every workflow reads.

btcv (btcv_layout): the challenge's folders, checked against the published facts; submission: label maps as the
challenge takes them; split: which case is in which split; datalist_writer: checks and writes. Each command has --help.
"""
