"""The mechanisms of a run that every stage shares.

processes: ranks and shards; resume: checkpoints; run_folder: one folder, one run; streams: endless batches, each known
from the seed and its number; precision: bfloat16 where it is faster; progress: bar and ETA; console, plain_errors:
commands; markdown_table: what they print.
"""
