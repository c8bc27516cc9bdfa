"""Coarse stage: a 3D network finds the organs; its maps become the attention of the query stage.

segmenter: network, grid and tiling; patches: its training batches; crossfit: training, with folds; maps: the kept
result for each case; recall: what it misses.
"""
