"""Scans and reference labels -> arrays on the working grid.

working_grid: one orientation and spacing, and the way back to the scan's own grid; photograph: an image is a volume of
one slice; largest_part: organs in one piece; organ_labels: file values -> class indices; slice_store: read once,
memory-mapped afterwards; intensity: the soft-tissue window.
"""
