#!/usr/bin/python3
"""Writes model/weights.json: the weights of examples/digits/model/digits.onnx, for a server without onnxruntime.

    apt-get install python3-onnx
    /usr/bin/python3 examples/python-server/export.py
"""

import json
from pathlib import Path

import onnx
from onnx import numpy_helper

here = Path(__file__).parent
graph = onnx.load(here / "../digits/model/digits.onnx").graph
tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
gemms = [node for node in graph.node if node.op_type == "Gemm"]
layers = []
for node in gemms:
    weights, bias = tensors[node.input[1]], tensors[node.input[2]]
    transposed = any(a.name == "transB" and a.i == 1 for a in node.attribute)
    rows = weights if transposed else weights.T
    # FP32 values written so that reading them gives the same FP32 value.
    layers.append({"weights": [[float(f"{v:.9g}") for v in row] for row in rows], "bias": [float(f"{v:.9g}") for v in bias]})
(here / "model/weights.json").write_text(json.dumps({"layers": layers}, separators=(",", ":")) + "\n")
