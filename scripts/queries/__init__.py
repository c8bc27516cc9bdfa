"""3D to 2D: a volume becomes query patches, one organ at a time, with that organ's attention as a channel.

coarse_maps: the kept maps of each case; planner: which slice, organ and window; attention: the extra channel and its
random faults; index: what training may draw; views: cutting and augmenting; batches: the stream that the stages see.
"""
