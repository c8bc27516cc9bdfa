"""What the method is compared with, where an overlay on the main configs is not enough.

slice_batches, slice_predictor: a plain 2D multi-class network on the same encoder, without attention; coarse_channels:
the same with the coarse maps of all organs as channels, and the mean of it and a coarse stage; volumes: a 3D network of
someone else on the working grid; monai_networks: one of these, and an EfficientNet as encoder; self_training: coarse
maps as labels; background_queries, contrast_views: other views to contrast; pixel_contrast, class_memory: contrast of
pixels.
"""
