"""The models are what they claim: valid graphs of the right size, that run and give what a classifier gives."""

from collections import Counter

import numpy as np
import onnx
import pytest

from benchmarks.images import INPUT, SyntheticImages
from benchmarks.models import CLASSES, MODELS, OUTPUT, mobilenet_v2, resnet50
from engines.graph.model import activations, input_specs
from engines.qdq.write import quantizable_tensors
from engines.sessions.onnxruntime import OnnxRuntimeSession


@pytest.fixture(scope="module", params=sorted(MODELS))
def model(request: pytest.FixtureRequest) -> onnx.ModelProto:
    return MODELS[request.param]()


def test_resnet50_has_the_layers_of_resnet50() -> None:
    model = resnet50()
    operators = Counter(node.op_type for node in model.graph.node)
    assert operators == {
        "Conv": 53, "Relu": 49, "Add": 16, "MaxPool": 1, "GlobalAveragePool": 1, "Flatten": 1, "Gemm": 1
    }  # fmt: skip
    assert len(activations(model)) == 123
    assert parameters(model) == 25_530_472  # the published 25.6 million, batch normalization folded


def test_mobilenet_v2_has_the_layers_of_mobilenet_v2() -> None:
    model = mobilenet_v2()
    operators = Counter(node.op_type for node in model.graph.node)
    assert operators == {"Conv": 52, "Clip": 35, "Add": 10, "GlobalAveragePool": 1, "Flatten": 1, "Gemm": 1}
    assert len(activations(model)) == 101
    depthwise = [n for n in model.graph.node if any(a.name == "group" and a.i > 1 for a in n.attribute)]
    assert len(depthwise) == 17
    assert parameters(model) == 3_487_818  # the published 3.5 million, and the bounds 0 and 6


def test_models_are_valid_and_run_at_any_batch_size(model: onnx.ModelProto) -> None:
    onnx.checker.check_model(model, full_check=True)
    (spec,) = input_specs(model)
    assert (spec.name, spec.shape, spec.dtype) == (INPUT, ("batch", 3, 224, 224), np.float32)
    with OnnxRuntimeSession(model) as session:
        for count in (1, 3):
            (batch,) = SyntheticImages(count)
            logits = session.run(batch)[OUTPUT]
            assert logits.shape == (count, CLASSES)
            assert np.isfinite(logits).all()
            assert logits.std() > 0.1


def test_activations_neither_vanish_nor_explode(model: onnx.ModelProto) -> None:
    inferred = onnx.shape_inference.infer_shapes(model)
    inferred.graph.output.extend(inferred.graph.value_info)
    with OnnxRuntimeSession(inferred) as session:
        (batch,) = SyntheticImages(1)
        deviations = {name: values.std() for name, values in session.run(batch).items()}
    assert all(0.05 < deviation < 100 for deviation in deviations.values()), deviations


def test_the_same_seed_gives_the_same_model_and_another_seed_another() -> None:
    assert mobilenet_v2() == mobilenet_v2(seed=0)
    assert mobilenet_v2() != mobilenet_v2(seed=1)


def test_there_is_much_to_quantize(model: onnx.ModelProto) -> None:
    assert len(quantizable_tensors(model)) > 50


def parameters(model: onnx.ModelProto) -> int:
    return sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer)
