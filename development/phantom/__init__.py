"""Synthetic abdomen: the bundle's embedded data set, made in seconds and deterministic by seed.

Reading order, which is also the order of the pipeline:

- ``deformation``: pose and elastic displacement between the reference person and one case.
- ``shapes``: ellipsoids and tubes, the only two kinds of solid the anatomy is built from.
- ``canvas``: the voxel grid of one case that the solids are painted on.
- ``torso``: body outline, spine, ribs, lungs, muscles; ``bowel``: duodenum, small bowel and colon.
- ``viscera``: liver, spleen, stomach, kidneys, pancreas; ``vessels``: aorta, veins; small organs beside them.
- ``tissues``: the names of all tissues and their HU per contrast phase.
- ``imaging``: tissue map to a noisy, blurred CT in HU.
- ``anatomy``: one whole case in memory (``make_phantom_case``).
- ``dataset``: many cases on disk with a Decathlon-style ``dataset.json`` (``write_phantom_dataset``).
- ``series``: a case on disk as a DICOM series, in place of NIfTI.
- ``python -m development.phantom``: the same from the command line.
"""
