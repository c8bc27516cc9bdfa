"""What leaves the bundle, for programs that do not have it.

half_precision: weights of half the size; torchscript: the whole predictor in one file with configs and metadata;
onnx_segmenter: encoder + decoder for other runtimes; composition: the network
that they export, put together from the same config files as a workflow.
"""
