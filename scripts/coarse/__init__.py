"""Coarse stage: a 3D network finds the organs; its maps become the attention of the query stage.

crossfit: training, with folds; patches: its training batches; cpu_training: what makes its steps quick; recall: the
organs and slices that it misses; doubts: the contours that its maps contradict.
"""
