"""Benchmarks: each prints what two ways of doing the same cost in one run, because only ratios survive another machine.

sampling: query batches against a cached MONAI chain and against the encoder; inference: time and memory of whole
volumes; precision: number formats and memory layouts of the encoder; supcon: the loss against
pytorch-metric-learning. They stand on timing (the clocks), phantom_bundle (the bundle's own configs on synthetic data),
oracle_coarse (a coarse stage that finds the organs without training), patch_chain (the MONAI chain), phantom_volume
(volumes of any size) and one_volume (one measured volume in a process of its own). README.md has figures.
"""
