"""From data as they lie on a disk to a dataset.json that every workflow reads. Each command has --help.

btcv: the challenge's folders, checked against the published facts. own (scan_folders, structure_labels):
folders, a table or structure sets of one's own scans; merge: data sets contoured for different organs become one.
split: which case is where; cohort: checks and writes.
"""
