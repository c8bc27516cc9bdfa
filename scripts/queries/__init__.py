"""3D to 2D: a volume becomes query patches, one organ at a time, with that organ's attention as a channel.

coarse_maps: maps of each case; planner: which slice, organ and window; attention: the extra channel and its faults;
index: what training may draw; views: cut and augmented; batches: their stream; softmax_queries: organs that compete.
"""
