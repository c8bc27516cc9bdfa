"""Scans and reference labels -> arrays on the working grid.

scan_reader: scans as MONAI reads them, by the rules of the data set's check; working_grid: one orientation and spacing,
and the way back to the scan's own grid; resampling: scores and labels between grids; organ_labels: file values -> class
indices; intensity: the soft-tissue window; slice_store: read once, memory-mapped afterwards.
"""
