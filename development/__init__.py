"""For the makers of the bundle: what a person who downloads it does not need.

phantom/      a synthetic abdomen, the embedded example data; demo.py trains on it
baselines/    what the method is compared with, where an overlay on the configs is not enough
study/        the arms of a plan trained and scored alike, and what their scores say
release/      checks of the model zoo, zip, hub folder, addresses with checksums
benchmarks/   speed and memory, measured side by side
monai_label/  checks of the bundle in the real MONAI Label server: over REST, and on screen with OHIF and an archive
standalone_configs.py  blocks that configs share, and their JSON twins
size.py       how large the project is, beside its targets
checks.py     linters, type checks and tests, as continuous integration runs them

Nothing in scripts/ imports from here.
"""
