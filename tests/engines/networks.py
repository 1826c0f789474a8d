"""Small ONNX models, node by node, and random samples for them."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper, shape_inference

from engines.graph.model import input_specs


class Net:
    """A model under construction: a tensor has a name of its own, and the node that makes it is called
    `<tensor>/<operator>`."""

    def __init__(self, *, opset: int = 17, ir_version: int = 8, seed: int = 0, named: bool = True) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes, self.inputs, self.constants = [], [], {}
        self.opset, self.ir_version, self.named = opset, ir_version, named

    def input(self, name="x", shape=("N", 8, 8, 8), element=TensorProto.FLOAT):
        self.inputs.append(helper.make_tensor_value_info(name, element, shape))
        return name

    def constant(self, name, array):
        self.constants[name] = np.asarray(array)
        return name

    def weight(self, name, *shape, fan_in=None):
        fan_in = fan_in or int(np.prod(shape[1:]))
        return self.constant(name, (self.random.standard_normal(shape) * np.sqrt(2 / fan_in)).astype(np.float32))

    def node(self, operator, inputs, to, /, **attributes):
        """Add a node; `inputs` and `to` are names separated by spaces."""
        to = to.split(" ")
        name = f"{to[0]}/{operator}" if self.named else ""
        self.nodes.append(helper.make_node(operator, inputs.split(), to, name=name, **attributes))
        return to[0]

    def conv(self, x, to, *shape, bias=True, operator="Conv", **attributes):
        """A convolution of stride 1 that keeps the size, unless the attributes say otherwise."""
        self.weight(f"{to}_w", *shape)
        channels = shape[0] if operator == "Conv" else shape[1] * attributes.get("group", 1)
        names = f"{x} {to}_w"
        if bias:
            names += " " + self.constant(f"{to}_b", self.random.standard_normal(channels).astype(np.float32) * 0.1)
        attributes.setdefault("pads", [size // 2 for size in shape[2:]] * 2)
        return self.node(operator, names, to, **attributes)

    def batch_norm(self, x, to, channels, **attributes):
        draws = self.random.uniform(0.5, 1.5, (4, channels)).astype(np.float32)
        names = [f"{to}_{part}" for part in ("scale", "shift", "mean", "var")]
        for name, draw in zip(names, draws, strict=True):
            self.constant(name, draw if name.endswith(("scale", "var")) else draw - 1)
        return self.node("BatchNormalization", " ".join([x, *names]), to, **attributes)

    def model(self, *outputs, element=TensorProto.FLOAT):
        """Before IR version 4, initializers are inputs too."""
        constants = [numpy_helper.from_array(array, name) for name, array in self.constants.items()]
        listed = [helper.make_tensor_value_info(each.name, each.data_type, each.dims) for each in constants]
        graph = helper.make_graph(
            self.nodes,
            "network",
            self.inputs + (listed if self.ir_version < 4 else []),
            [helper.make_tensor_value_info(name, element, None) for name in outputs],
            constants,
        )
        others = {node.domain for node in self.nodes} - {""}
        opsets = [helper.make_opsetid("", self.opset), *(helper.make_opsetid(domain, 1) for domain in others)]
        model = shape_inference.infer_shapes(
            helper.make_model(graph, opset_imports=opsets, ir_version=self.ir_version), data_prop=True
        )
        del model.graph.value_info[:]
        return model


def samples_of(model, count, *, seed=0, batch=1):
    """Batches of random samples for the float inputs of a model."""
    random = np.random.default_rng(seed)
    return [
        {
            spec.name: random.standard_normal((min(batch, count - start), *spec.shape[1:])).astype(spec.dtype)
            for spec in input_specs(model)
        }
        for start in range(0, count, batch)
    ]


def classifier(channels=3, size=16, classes=16, seed=0):
    """Scores of images N,channels,size,size: two convolutions, the second behind a pooling, and a matrix product."""
    net = Net(seed=seed)
    net.conv(net.input("image", ("N", channels, size, size)), "a", 16, channels, 3, 3, bias=False)
    net.batch_norm("a", "a_bn", 16)
    net.node("Relu", "a_bn", "a_relu")
    net.node("MaxPool", "a_relu", "pooled", kernel_shape=[2, 2], strides=[2, 2])
    net.conv("pooled", "b", 16, 16, 3, 3)
    net.node("Relu", "b", "b_relu")
    net.node("GlobalAveragePool", "b_relu", "average")
    net.node("Flatten", "average", "flat")
    net.weight("w", 16, classes, fan_in=16)
    net.node("MatMul", "flat w", "scores")
    return net.model("scores")


def attention(batch="N", *, heads=4, width=64, length=16, opset=23):
    """Attention of opset 23 over x of batch,length,width between four matrix products."""
    net = Net(opset=opset, ir_version=10)
    x = net.input("x", (batch, length, width))
    for name in ("q", "k", "v", "out"):
        net.weight(f"{name}_w", width, width)
    for name in ("q", "k", "v"):
        net.node("MatMul", f"{x} {name}_w", name)
    net.node("Attention", "q k v", "attended", q_num_heads=heads, kv_num_heads=heads)
    net.node("MatMul", "attended out_w", "y")
    return net.model("y")


def selector(batch="N", threshold=1.2, dense=True):
    """Of images batch,3,8,8 the places of an activation over a threshold, as `picked`, with their indices and an INT8
    layer that reads them; `dense` gives the activation as well."""
    net = Net()
    net.conv(net.input("x", (batch, 3, 8, 8)), "a", 8, 3, 3, 3)
    net.node("Relu", "a", "ar")
    net.conv("ar", "c", 16, 8, 3, 3)
    net.node("ReduceMax", "c", "m", axes=[1], keepdims=0)
    net.constant("t", np.float32(threshold))
    net.node("Greater", "m t", "over")
    net.node("NonZero", "over", "nz")
    net.node("Transpose", "nz", "places", perm=[1, 0])
    net.node("Transpose", "c", "last", perm=[0, 2, 3, 1])
    net.node("GatherND", "last places", "rows")
    net.node("MatMul", f"rows {net.weight('w', 16, 16, fan_in=16)}", "picked")
    model = net.model("picked", *(["c"] if dense else []))
    model.graph.output.append(helper.make_tensor_value_info("places", TensorProto.INT64, [None, 3]))
    return model
