"""How good a segmentation is.

case_scores: one label map against its reference; handler: during an evaluator's run; summary (intervals):
averages over patients with their uncertainty; score_tables: tables as files; pixel_scores: over all pixels of a set;
quality (plausibility): an estimate of the Dice without a reference.
"""
