"""Benchmarks: each prints what two ways of doing the same cost in one run, because only ratios survive another machine.

beside_others: a whole scan, beside two bundles of the model zoo; training_step: a contrastive step, beside the public
code's design; sampling: query batches against a cached MONAI chain and against the encoder; inference: time and memory
over the number of slices; precision: number formats and memory layouts of the encoder; supcon: the loss against
pytorch-metric-learning. They stand on timing (the clocks), phantom_bundle (the bundle's own configs on synthetic
data, with a coarse stage that finds the organs without training), patch_chain (the MONAI chain), phantom_volume
(volumes and scans of any size), candidates and public_design (who is compared), one_volume and
one_scan (one measurement in a process of its own). README.md has figures.
"""
