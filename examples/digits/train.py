#!/usr/bin/python3
"""Trains the digits example and writes everything in this directory that comes from the data set.

    apt-get install python3-sklearn python3-onnx
    /usr/bin/python3 examples/digits/train.py [DIRECTORY]      (default: beside this script)

The same bytes come out on every machine. Sums of floating-point numbers depend on their order, hence on the
BLAS library, the CPU and the number of threads; so every matrix product here is of fixed-point numbers that are
few and small enough for float64 to hold each partial sum exactly. What remains is elementwise IEEE 754
arithmetic and NumPy's legacy random generator, whose stream is frozen.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits

SEED = 2024
HELD_OUT = 450  # of 1797: a quarter
# Chosen by four-fold cross-validation within the training part (98.7 %); the held-out part chose nothing.
LAYERS = [64, 128, 10]
EPOCHS = 300
BATCH = 64
RATE = 3e-3
DECAY = 5e-2
BLUR = 0.7
FRACTION_BITS = 20


def matmul(a, b):
    """a @ b of the operands rounded to multiples of 2^-20, exactly: no partial sum needs more than 53 bits."""
    a, b = (np.ldexp(np.rint(np.ldexp(m, FRACTION_BITS)), -FRACTION_BITS) for m in (a, b))
    bound = np.abs(a).max() * np.abs(b).max() * a.shape[1]
    assert bound < 2.0 ** (53 - 2 * FRACTION_BITS), f"a sum of up to {bound} would be rounded"
    return a @ b


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    # Ten terms, added one after another: the order is part of the result.
    total = np.zeros(len(powers))
    for column in powers.T:
        total = total + column
    return powers / total[:, None]


def forward(parameters, pixels):
    """The input of every layer, and the probabilities."""
    inputs = [pixels / 16]
    for index, (weights, bias) in enumerate(parameters):
        out = matmul(inputs[-1], weights) + bias
        inputs.append(out if index == len(parameters) - 1 else np.maximum(out, 0))
    return inputs[:-1], softmax(inputs[-1])


def shifted(images, random):
    """Each image moved by a part of a pixel (a mix of itself and its neighbour), as a pen would vary it."""
    moved = np.empty_like(images)
    for index, image in enumerate(images.reshape(-1, 8, 8)):
        down, right = random.randint(0, 3, 2)
        moved[index] = np.pad(image, 1)[down : down + 8, right : right + 8].reshape(64)
    share = random.uniform(0, BLUR, (len(images), 1))
    return images + (moved - images) * share


def train(images, labels, random):
    """Adam with decoupled weight decay, on cross-entropy; the rate falls linearly to nothing."""
    parameters = [
        [random.uniform(-1, 1, (fan_in, fan_out)) * np.sqrt(6 / fan_in), np.zeros(fan_out)]
        for fan_in, fan_out in zip(LAYERS, LAYERS[1:])
    ]
    moments = [[(np.zeros_like(p), np.zeros_like(p)) for p in layer] for layer in parameters]
    steps = EPOCHS * (len(images) // BATCH)
    step = 0
    first, second = 1.0, 1.0  # beta1^step and beta2^step
    for _ in range(EPOCHS):
        order = random.permutation(len(images))
        for start in range(0, len(images) - BATCH + 1, BATCH):
            chosen = order[start : start + BATCH]
            inputs, probabilities = forward(parameters, shifted(images[chosen], random))
            delta = probabilities - np.eye(10)[labels[chosen]]
            rate = RATE * (1 - step / steps)
            step, first, second = step + 1, first * 0.9, second * 0.999
            for index in reversed(range(len(parameters))):
                layer = parameters[index]
                gradients = [
                    matmul(inputs[index].T, delta) / BATCH,
                    matmul(np.ones((1, BATCH)), delta)[0] / BATCH,
                ]
                if index > 0:
                    delta = matmul(delta, layer[0].T) * (inputs[index] > 0)
                for which, gradient in enumerate(gradients):
                    mean, square = moments[index][which]
                    mean = 0.9 * mean + 0.1 * gradient
                    square = 0.999 * square + 0.001 * (gradient * gradient)
                    moments[index][which] = (mean, square)
                    update = (mean / (1 - first)) / (np.sqrt(square / (1 - second)) + 1e-8)
                    layer[which] = layer[which] - rate * (update + DECAY * layer[which])
    return parameters


def export(parameters):
    """image [batch, 64], raw pixels 0..16 -> label [batch], probabilities [batch, 10]."""
    nodes = [helper.make_node("Mul", ["image", "scale"], ["layer0"])]
    weights = [numpy_helper.from_array(np.array(1 / 16, np.float32), "scale")]
    last = len(parameters)
    for index, (matrix, bias) in enumerate(parameters, start=1):
        weights.append(numpy_helper.from_array(matrix.astype(np.float32), f"weights{index}"))
        weights.append(numpy_helper.from_array(bias.astype(np.float32), f"bias{index}"))
        out = "logits" if index == last else f"sum{index}"
        nodes.append(helper.make_node("Gemm", [f"layer{index - 1}", f"weights{index}", f"bias{index}"], [out]))
        if index < last:
            nodes.append(helper.make_node("Relu", [out], [f"layer{index}"]))
    nodes.append(helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1))
    nodes.append(helper.make_node("ArgMax", ["logits"], ["label"], axis=1, keepdims=0))
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 64])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, ["batch"]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 10]),
        ],
        weights,
    )
    # Nothing here may depend on the versions installed: the model's bytes are its identity.
    model = helper.make_model(
        graph,
        ir_version=8,
        opset_imports=[helper.make_opsetid("", 17)],
        producer_name="atoma-tee examples/digits",
        producer_version="1",
    )
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def request(pixels):
    """An Open Inference Protocol v2 request for one image, one row of pixels to the line."""
    rows = ",\n".join(" " * 8 + ", ".join(f"{int(p):2}" for p in row) for row in pixels.reshape(8, 8))
    return f"""{{
  "inputs": [
    {{
      "name": "image",
      "shape": [1, 64],
      "datatype": "FP32",
      "data": [
{rows}
      ]
    }}
  ]
}}
"""


def main(directory):
    images, labels = load_digits(return_X_y=True)
    order = np.random.RandomState(SEED).permutation(len(images))
    held_out, training = order[:HELD_OUT], order[HELD_OUT:]

    parameters = train(images[training], labels[training], np.random.RandomState(SEED + 1))
    _, probabilities = forward(parameters, images[held_out])
    right = int((probabilities.argmax(axis=1) == labels[held_out]).sum())
    print(f"held out: {right} of {HELD_OUT} right, {100 * right / HELD_OUT:.2f} %")

    (directory / "model").mkdir(parents=True, exist_ok=True)
    (directory / "inputs").mkdir(exist_ok=True)
    (directory / "model" / "digits.onnx").write_bytes(export(parameters))
    rows = (",".join(str(int(v)) for v in [*images[i], labels[i]]) for i in held_out)
    (directory / "held-out.csv").write_text("".join(f"{row}\n" for row in rows))
    # The first two of each digit in held-out order, whatever the model makes of them.
    shown = [i for place, i in enumerate(held_out) if (labels[held_out[:place]] == labels[i]).sum() < 2]
    for number, index in enumerate(shown):
        (directory / "inputs" / f"{number:02}.json").write_text(request(images[index]))
    names = {f"{number:02}": int(labels[index]) for number, index in enumerate(shown)}
    (directory / "labels.json").write_text(json.dumps(names, indent=2) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
