"""A model server that knows nothing of enclaves: Python's standard library and a model directory.

It answers the Open Inference Protocol v2 on 127.0.0.1:$PORT, from the weights in $ATOMA_MODEL. The agent around it
attests, opens the model, forwards requests and signs receipts over what this program answers.
"""

import json
import math
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

NAME = "python-digits"
LAYERS = json.loads((Path(os.environ["ATOMA_MODEL"]) / "weights.json").read_text())["layers"]


def infer(pixels):
    """Probabilities of the ten digits for 64 pixels of 0 to 16: dense layers, ReLU between, softmax at the end."""
    values = [pixel / 16 for pixel in pixels]
    for index, layer in enumerate(LAYERS):
        # Weights are stored by output: one row per neuron.
        values = [bias + sum(map(float.__mul__, row, values)) for row, bias in zip(layer["weights"], layer["bias"])]
        if index < len(LAYERS) - 1:
            values = [max(0.0, value) for value in values]
    highest = max(values)
    powers = [math.exp(value - highest) for value in values]
    return [power / sum(powers) for power in powers]


def answer(request):
    """The response to an inference request, both as the protocol has them. Raises ValueError for what it cannot read."""
    try:
        (tensor,) = request["inputs"]
        count, width = tensor["shape"]
        data = [float(value) for value in tensor["data"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError("expected one input with a shape of two dimensions and flat data") from error
    if tensor["name"] != "image" or width != 64 or len(data) != count * width:
        raise ValueError("expected the input image, FP32, of shape [batch, 64]")
    rows = [infer(data[at : at + width]) for at in range(0, len(data), width)]
    labels = [max(range(10), key=row.__getitem__) for row in rows]
    return {
        "model_name": NAME,
        "outputs": [
            {"name": "label", "datatype": "INT64", "shape": [count], "data": labels},
            {
                "name": "probabilities",
                "datatype": "FP32",
                "shape": [count, 10],
                "data": [value for row in rows for value in row],
            },
        ],
    }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def reply(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        ready = self.path in ("/v2/health/live", "/v2/health/ready", f"/v2/models/{NAME}/ready")
        self.reply(200 if ready else 404, {})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path != f"/v2/models/{NAME}/infer":
            return self.reply(404, {"error": "no such model"})
        try:
            self.reply(200, answer(json.loads(body)))
        except ValueError as error:
            self.reply(400, {"error": str(error)})

    def log_message(self, *_):
        """Requests are not the console's to see."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
