"""Exports: torchscript, the whole predictor in one file; onnx_segmenter, encoder + decoder."""
