"""What the method is compared with, where an overlay on the main configs is not enough.

slice_batches, slice_predictor: a plain 2D multi-class network on the same encoder, without attention;
coarse_channels: the same with the coarse maps of all organs as channels; volumes: a 3D network of someone else on the
working grid; swin_unetr: one of these; contrast_without_attention: views without the attention channel; budget: what
each baseline costs.
"""
