"""Losses: contrast of views (supcon) and of pixels (class_memory); DiceCE for partly contoured cases (partial_labels)."""
