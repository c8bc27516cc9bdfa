"""Losses: supervised contrast (supcon), DiceCE for cases contoured for some organs only (partial_labels).

ignored_pixels: pixels whose truth is unknown leave every loss.
"""
