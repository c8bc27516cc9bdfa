"""Losses: contrast of views (supcon) and of pixels (class_memory); DiceCE for partial labels (partial_labels).

ignored_pixels: pixels whose truth is unknown leave every loss.
query_loss: the segmentation stage's, organ by organ.
"""
