"""Losses: contrast of views (supcon), and those of the segmentation stages where the truth is partly unknown."""
