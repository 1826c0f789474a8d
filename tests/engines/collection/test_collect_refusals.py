"""Collection on what it cannot use, interrupted, and for long."""

import subprocess
import sys
import threading

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from calibrators.batches import Batch
from calibrators.errors import DataError, ModelError
from engines.collection.collect import collect
from engines.qdq.write import quantize
from tests.engines.networks import Net, samples_of
from tests.engines.zoo import ZOO


def threads_of_collection():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("collect")]


class TestBadData:
    def refused(self, model, batches, **options):
        with pytest.raises(DataError) as caught:
            collect(model, batches, **options)
        assert len(str(caught.value).splitlines()) == 1
        assert caught.value.exit_code == 2
        return str(caught.value)

    @pytest.mark.parametrize("operator, kind", [("Log", "NaN"), ("Reciprocal", "infinite"), ("Sqrt", "NaN")])
    @pytest.mark.parametrize("threads", [1, 4])
    def test_a_number_that_is_none_names_the_tensor_and_the_image(self, operator, kind, threads):
        net = Net()
        net.conv(net.input(), "a", 8, 8, 1, 1)
        net.node(operator, "x", "broken")
        net.node("Relu", "broken", "relu")
        net.node("Add", "a relu", "y")
        images = np.ones((9, 8, 8, 8), np.float32)
        images[6, 0, 0, 0] = 0 if operator == "Reciprocal" else -1
        names = [f"cats/{place}.png" for place in range(9)]
        batches = [Batch({"x": images[at : at + 2]}, names=names[at : at + 2]) for at in range(0, 9, 2)]
        message = self.refused(net.model("y"), batches, threads=threads)
        assert f"the activation broken is {kind} for cats/6.png" in message
        assert not threads_of_collection()

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_an_input_that_is_none(self, value):
        model = ZOO["conv_bn_relu"]().model
        images = np.zeros((3, 8, 8, 8), np.float32)
        images[2, 1, 1, 1] = value
        message = self.refused(model, [images])
        assert "activation x is" in message
        assert "sample 2" in message

    def test_a_double_that_float32_does_not_hold_is_infinite_without_a_warning(self, recwarn):
        double = helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["n", 4])
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"])],
            "double",
            [double],
            [helper.make_tensor_value_info("y", TensorProto.DOUBLE, ["n", 4])],
            [numpy_helper.from_array(np.eye(4), "w")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        assert "activation x is infinite" in self.refused(model, [np.full((1, 4), 1e300)])
        assert not recwarn.list

    def test_in_a_fixed_batch_the_right_image_is_named(self):
        net = Net()
        net.node("Log", net.input(shape=(4, 8)), "y")
        images = np.ones((6, 8), np.float32)
        images[5] = -1
        assert "for sample 5" in self.refused(net.model("y"), [images])

    @pytest.mark.parametrize("batches", [[], [np.zeros((0, 8, 8, 8), np.float32)]])
    def test_no_sample(self, batches):
        assert "no sample" in self.refused(ZOO["conv_bn_relu"]().model, batches)

    @pytest.mark.parametrize("shape", [(2, 8, 9, 8), (2, 4, 8, 8), (8, 8, 8), (2, 8, 8, 8, 1), ()])
    def test_another_size(self, shape):
        message = self.refused(ZOO["conv_bn_relu"]().model, [np.zeros(shape, np.float32)])
        assert "the model takes x:Nx8x8x8" in message

    def test_another_name(self):
        message = self.refused(ZOO["conv_bn_relu"]().model, [{"pixels": np.zeros((1, 8, 8, 8), np.float32)}])
        assert "the data holds pixels, but the model's inputs are x" in message

    def test_a_name_that_is_missing(self):
        message = self.refused(ZOO["two_inputs"]().model, [{"image": np.zeros((1, 8, 8, 8), np.float32)}])
        assert "the model's inputs are extra, image" in message

    def test_different_numbers_of_samples(self):
        batch = {"image": np.zeros((2, 8, 8, 8), np.float32), "extra": np.zeros((3, 8), np.float32)}
        assert "different numbers of samples" in self.refused(ZOO["two_inputs"]().model, [batch])

    def test_a_sample_that_the_model_cannot_run(self):
        """Indices beyond a table: ONNX Runtime's own words, on one line."""
        net = Net()
        net.input("ids", ("N", 2), TensorProto.INT64)
        net.weight("table", 4, 4)
        net.node("Gather", "table ids", "y")
        message = self.refused(net.model("y"), [{"ids": np.array([[0, 1], [2, 3]])}, {"ids": np.array([[4, 0]])}])
        assert "could not run the model on sample 2" in message

    @pytest.mark.parametrize("error", [OSError("it is gone"), DataError("image 3 is broken"), KeyboardInterrupt()])
    def test_an_exception_in_the_loader_comes_out_as_it_was_raised(self, error):
        model = ZOO["conv_bn_relu"]().model

        def loader():
            yield from samples_of(model, 5)
            raise error

        with pytest.raises(type(error)) as caught:
            collect(model, loader())
        assert caught.value is error

    def test_no_place_for_temporary_files_is_no_obstacle(self, monkeypatch):
        model = ZOO["depthwise"]().model
        samples = samples_of(model, 5)
        expected = collect(model, samples)
        monkeypatch.setattr("tempfile.tempdir", "/nowhere")
        assert dict(collect(model, samples)) == dict(expected)

    def test_an_interruption_leaves_no_thread_and_no_file(self, tmp_path, monkeypatch):
        for name in ("TMPDIR", "TEMP", "TMP"):
            monkeypatch.setenv(name, str(tmp_path))
        monkeypatch.setattr("tempfile.tempdir", None)
        monkeypatch.chdir(tmp_path)
        model = ZOO["depthwise"]().model

        def interrupt(done):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            collect(model, samples_of(model, 20), progress=interrupt)
        assert not threads_of_collection()
        assert list(tmp_path.iterdir()) == []


class TestBadModels:
    def test_a_quantized_model(self):
        """Its Q/DQ nodes hold ranges already, and others would be those of rounded values."""
        model = ZOO["conv_bn_relu"]().model
        quantized = quantize(model, {"x": 0.1, "a_relu": 0.1}).model
        with pytest.raises(ModelError, match=r"has Q/DQ nodes already, .*: give the float model"):
            collect(quantized, samples_of(model, 1))

    def test_no_float_activation(self):
        net = Net()
        net.node("Neg", net.input(element=TensorProto.INT64), "y")
        with pytest.raises(ModelError, match="no float activation"):
            collect(net.model("y", element=TensorProto.INT64), [np.zeros((1, 8, 8, 8), np.int64)])

    def test_nothing_to_quantize(self):
        net = Net()
        net.node("Relu", net.input(), "y")
        with pytest.raises(ModelError, match="no layer to quantize"):
            collect(net.model("y"), samples_of(net.model("y"), 1), tensors="quantizable")
        assert tuple(collect(net.model("y"), samples_of(net.model("y"), 1))) == ("x", "y")

    def test_an_operator_that_the_runtime_does_not_have(self):
        net = Net()
        net.node("Nonsense", net.input(), "y", domain="com.example")
        with pytest.raises(ModelError) as caught:
            collect(net.model("y"), samples_of(net.model("y"), 1))
        assert str(caught.value) == (
            "calibration cannot run the model in memory: ONNX Runtime refuses it (com.example:Nonsense(-1) is not a "
            "registered function/op): it has no such operator; export the model with standard ONNX operators"
        )

    def test_a_file_that_the_runtime_refuses_is_named(self, tmp_path):
        net = Net()
        net.conv(net.input(shape=("N", 8, 8, 8)), "y", 8, 4, 3, 3)
        net.node("Nonsense", "y", "z", domain="com.example")
        path = tmp_path / "model.onnx"
        onnx.save(net.model("z"), path)
        with pytest.raises(ModelError) as caught:
            collect(path, samples_of(net.model("z"), 1))
        message = str(caught.value)
        assert message.startswith(f"calibration cannot run {path}: ONNX Runtime refuses it (")
        assert message.endswith("export the model with standard ONNX operators")
        assert len(message.splitlines()) == 1
        assert message.count(str(path)) == 1

    @pytest.mark.parametrize("how", ["appended", "replaced", "removed", "weights"])
    def test_a_file_that_changes_meanwhile(self, how, tmp_path):
        model = ZOO["conv_bn_relu"]().model
        path, data = tmp_path / "model.onnx", tmp_path / "data.bin"
        onnx.save(model, path, save_as_external_data=True, location=data.name, size_threshold=0)

        def changing():
            yield from samples_of(model, 3)
            if how == "appended":
                path.write_bytes(path.read_bytes() + b"\0")
            elif how == "replaced":
                other = tmp_path / "other.onnx"
                other.write_bytes(path.read_bytes())
                other.replace(path)
            elif how == "removed":
                path.unlink()
            else:
                data.write_bytes(data.read_bytes()[::-1])

        with pytest.raises(ModelError, match=f"{path} was changed while it was calibrated, .*: calibrate again"):
            collect(path, changing())

    def test_a_missing_file(self, tmp_path):
        with pytest.raises(ModelError, match="no model"):
            collect(tmp_path / "missing.onnx", [])


MEMORY = """
import resource, sys
import numpy as np
from engines.collection.collect import collect
from tests.engines.networks import Net

net = Net()
net.conv(net.input(shape=("N", 16, 96, 96)), "a", 32, 16, 3, 3)
for i in range(8):
    net.node("Sigmoid", "a" if i == 0 else f"s{i - 1}", f"s{i}")
model = net.model("s7")

def loader():
    for seed in range(int(sys.argv[1])):
        yield np.random.default_rng(seed).standard_normal((1, 16, 96, 96)).astype(np.float32)

collect(model, loader(), threads=2)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_number_of_samples():
    """112 more samples have 1.3 GB of activations; the bound leaves room for what an allocator does."""

    def peak(samples):
        command = [sys.executable, "-c", MEMORY, str(samples)]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        return int(run.stdout) * 1024

    assert peak(128) < peak(16) + 60e6
