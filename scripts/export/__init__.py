"""What leaves the bundle, for programs that do not have it.

torchscript: the whole predictor in one file with configs and metadata; onnx_segmenter: encoder + decoder for others.
"""
