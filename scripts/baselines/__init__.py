"""What the method is compared with, where an overlay on the main configs is not enough.

slice_batches, slice_predictor: a plain 2D multi-class network on the same encoder, without attention.
"""
