"""From a volume to fused labels.

predictor: the one network that ships, both stages in one; ensemble: the predictors of several folds as one; fusion:
patches -> class scores; weights: loading them; scan_evaluator: many scans, one bad one does not stop the others;
shared_scans: shared by several processes; outputs: label maps, scores, pictures; palette_labels: label maps of
photographs; manifest: what was written, of what; result_settings: by which settings.
"""
