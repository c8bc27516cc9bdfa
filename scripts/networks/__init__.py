"""The second stage's networks: encoder + decoder = query segmenter; encoder + projection head = contrastive network."""
