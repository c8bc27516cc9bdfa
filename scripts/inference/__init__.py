"""From a volume to fused labels.

predictor: the one network that ships, both stages in one; fusion: patches -> class scores; weights: loading them, and
the ensemble of several folds; scan_evaluator: many scans, one bad one does not stop the others; shared_scans: scans
shared by several processes; manifest: what was written, of what and by which settings.
"""
