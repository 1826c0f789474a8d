#!/usr/bin/env bash
# PyTorch's TorchScript exporter (dynamo=False) writes parameters that are equal by value as one initializer: the weight
# of one layer, say, and the running variance of another, both ones. The others become outputs of Identity nodes. So in
# an untrained model most parameters are no initializers, and a tool that looks for a layer's weight among these, or
# changes it there, misses it or changes a second layer. With dynamo=True several nodes read the one initializer.
# For a user: fold Identity nodes of constants before weights are read, and copy an initializer that several nodes read
# before it is changed. Trained parameters are rarely equal; a test with an untrained model meets this.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check torch==2.13.0 onnx==1.23.2 numpy

"$work/venv/bin/python" -W ignore - <<'END'
import io

import onnx
import torch
from torch import nn


class Net(nn.Module):
    """Two normalizations and a linear layer between them, as they are initialized."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.linear = nn.BatchNorm1d(8), nn.BatchNorm1d(8), nn.Linear(8, 8)

    def forward(self, x):
        return self.second(torch.relu(self.linear(self.first(x))))


model = Net().eval()
wanted = {name for name, value in model.state_dict().items() if value.ndim}
file = io.BytesIO()
torch.onnx.export(model, torch.zeros(2, 8), file, dynamo=False, opset_version=17, keep_initializers_as_inputs=False)
graph = onnx.load_from_string(file.getvalue()).graph
initializers = {each.name for each in graph.initializer} & wanted
copies = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Identity"}
print("torch", torch.__version__)
print(f"expected: an initializer for each of the {len(wanted)} parameters and buffers of the model")
print(f"initializers: {', '.join(sorted(initializers))}")
for name, source in copies.items():
    print(f"Identity: {name} is {source}")
if wanted <= initializers:
    raise SystemExit("changed: every parameter is an initializer")
if copies.get("second.running_var") != "first.weight":
    raise SystemExit("changed: the variance of one layer is no longer read from the weight of another")
END
