"""Networks with unequal channels: the same function, other scales inside."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from benchmarks.unequal import unequal
from engines.sessions.onnxruntime import OnnxRuntimeSession
from tests.engines.networks import Net, samples_of


def network():
    net = Net()
    net.conv(net.input(), "a", 16, 8, 3, 3)
    net.node("Relu", "a", "a_relu")
    net.conv("a_relu", "d", 16, 1, 3, 3, group=16)
    net.node("Relu", "d", "d_relu")
    net.conv("d_relu", "b", 8, 16, 1, 1)
    net.node("MaxPool", "b", "p", kernel_shape=[2, 2], strides=[2, 2])
    net.node("Flatten", "p", "f")
    net.weight("w", 128, 5)
    net.constant("c", np.ones(5, np.float32))
    net.node("Gemm", "f w c", "y")
    return net.model("y")


def constants(model):
    return {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}


def test_the_function_stays_and_the_channels_go_apart():
    model = network()
    made = unequal(model, spread=2.0)
    onnx.checker.check_model(made, full_check=True)
    for batch in samples_of(model, 2):
        with OnnxRuntimeSession(model) as one, OnnxRuntimeSession(made) as other:
            expected, got = one.run(batch)["y"], other.run(batch)["y"]
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    before, after = constants(model), constants(made)
    for name in ("a_w", "d_w", "b_w", "w"):
        assert not np.array_equal(before[name], after[name])
    for name in ("a_w", "d_w"):
        ranges = [np.abs(each[name]).max(axis=(1, 2, 3)) for each in (before, after)]
        assert ranges[1].max() / ranges[1].min() > 30 * ranges[0].max() / ranges[0].min()


def test_seeds():
    model = network()
    one, same, other = (
        unequal(model, spread=1.0, seed=seed).SerializeToString(deterministic=True) for seed in (0, 0, 1)
    )
    assert one == same != other


def test_outputs_that_several_read_stay():
    net = Net()
    net.conv(net.input(), "a", 8, 8, 3, 3)
    net.conv("a", "b", 8, 8, 3, 3)
    net.node("Add", "a b", "y")
    model = net.model("y")
    assert unequal(model, spread=1.0).SerializeToString() == model.SerializeToString()


def test_real_data_are_needed(capsys, tmp_path):
    from benchmarks.recovery import bench
    from calibrators.errors import DataError

    with pytest.raises(
        DataError, match="holds no models/: give the folder with the real models and images, --data DIR"
    ):
        bench(data=tmp_path)
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_the_second_case_on_real_data(shared_data, tmp_path):
    """The first takes some minutes; `python -m benchmarks.recovery` measures both."""
    from benchmarks.recovery import cases, rows

    first, second = cases(shared_data, tmp_path)
    assert first.max_drop == 1.0
    found = {row.name: row.score for row in rows(second)}
    assert list(found) == ["FP32", "quantized", "rounded in closed form", "recovered"]
    assert found["quantized"].top1.percent < 50
    assert found["recovered"].top1.percent >= found["FP32"].top1.percent - 1
    assert found["FP32"].samples == 400
