"""Losses: contrast of views (supcon) and of pixels (class_memory), and those of the segmentation stages.

query_loss: the segmentation stage's, organ by organ; partial_labels: DiceCE where the truth is partly unknown.
"""
