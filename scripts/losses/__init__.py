"""Losses: supervised contrast (supcon), and DiceCE for cases contoured for some organs only (partial_labels)."""
