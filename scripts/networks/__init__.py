"""Networks: coarse segmenter in 3D; encoder + decoder = query segmenter; encoder + head = contrastive network."""
