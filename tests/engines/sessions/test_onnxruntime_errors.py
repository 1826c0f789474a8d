"""ONNX Runtime's refusals: its real ones, each in one line without its codes and source files."""

import onnxruntime
import pytest

from engines.sessions.onnxruntime_errors import LONGEST, refusal
from tests.engines.networks import Net


def refused(model):
    """What ONNX Runtime itself raises."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    with pytest.raises(Exception) as caught:
        onnxruntime.InferenceSession(model.SerializeToString(), options)
    message = refusal(caught.value)
    assert len(message.splitlines()) == 1
    for raw in ("ONNXRuntimeError", "onnxruntime_src", "::"):
        assert raw not in message
    return message


def one(operator, **options):
    net = Net(**options)
    net.node(operator, net.input(), "y")
    return net.model("y")


def test_an_operator_that_it_does_not_have():
    message = refused(one("Nonsense"))
    assert "No Op registered for Nonsense with domain_version of 17" in message
    assert message.endswith("it has no such operator; export the model with standard ONNX operators")


@pytest.mark.parametrize("options", [{"opset": 99}, {"ir_version": 99}])
def test_a_model_newer_than_the_runtime(options):
    message = refused(one("Relu", **options))
    assert "99" in message
    assert message.endswith("update onnxruntime, or export the model with an older opset")


def test_a_model_that_is_not_whole():
    net = Net()
    net.node("Add", net.input() + " nowhere", "y")
    message = refused(net.model("y"))
    assert "Node input 'nowhere' is not a graph input" in message
    assert message.endswith("): export the model again")


def test_long_words_are_cut():
    assert len(refusal(RuntimeError("word " * 500))) < LONGEST + 100


def test_no_words_at_all():
    assert "(ValueError)" in refusal(ValueError())
