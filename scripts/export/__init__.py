"""What leaves the bundle: smaller weights, ONNX, TorchScript.

half_precision: weights of half the size; half_precision_cost: what they cost in Dice; onnx: encoder + decoder for other
runtimes. TorchScript and TensorRT are MONAI's own commands on the bundle's configs (docs/how_to/export.md).
"""
