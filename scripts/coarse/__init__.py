"""Coarse stage: a 3D network finds the organs; its maps become the attention of the query stage.

crossfit: training, with folds; patches: its training batches; recall: the organs and slices that it misses.
"""
