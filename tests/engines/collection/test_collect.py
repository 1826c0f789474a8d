"""Collection: what a pass over data remembers is what NumPy counts over every activation."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from engines.collection import collect as collecting
from engines.collection.collect import collect
from engines.graph.model import activations, model_digest, scale_groups
from engines.graph.operators import COMMUTES
from tests.engines.collection.exact import batched, counted, exact_network, whole_numbers, whole_samples
from tests.engines.networks import Net, samples_of
from tests.engines.zoo import ZOO


def everything(model, batches):
    """Each activation of each batch, from a session that optimizes nothing."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    names = [name for name in activations(model) if name not in {value.name for value in model.graph.input}]
    known = {value.name for value in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    runs = [dict(batch) | dict(zip(names, session.run(names, dict(batch)), strict=True)) for batch in batches]
    return {name: [run[name] for run in runs] for name in activations(model)}


def test_counting_by_definition():
    """What the tests above rest on, against a sample done by hand."""
    statistics = counted([[1.0, -2.0, 0.0, 3.0], [-0.0, -0.5, 0.25, 0.0]])
    assert (statistics.minimum, statistics.maximum, statistics.zeros, statistics.total) == (-2, 3, 3, 8)
    assert statistics.mean_absmax == (3 + 0.5) / 2


class TestAgainstNumPy:
    @pytest.mark.parametrize("channels", [3, 16])
    def test_every_activation_to_the_last_bit(self, channels):
        model, samples = exact_network(channels=channels), whole_samples((channels, 7, 7), 9)
        gathered, values = collect(model, samples), everything(model, samples)
        assert tuple(gathered) == activations(model) == tuple(values)
        for name, statistics in gathered.items():
            assert statistics == counted(values[name]), name

    @pytest.mark.parametrize("name", ZOO)
    def test_every_activation_of_the_zoo(self, name):
        model = ZOO[name]().model
        samples = samples_of(model, 5)
        gathered, values = collect(model, samples), everything(model, samples)
        assert tuple(gathered) == activations(model)
        for tensor, statistics in gathered.items():
            expected = counted(values[tensor])
            assert (statistics.samples, statistics.total) == (expected.samples, expected.total), tensor
            assert statistics.amax == pytest.approx(expected.amax, rel=1e-4), tensor
            assert statistics.minimum == pytest.approx(expected.minimum, rel=1e-4, abs=1e-5), tensor
            assert statistics.mean_absmax == pytest.approx(expected.mean_absmax, rel=1e-4), tensor

    def clip(self, opset, attributes=None, bounds=("", ""), element=TensorProto.FLOAT, source="Relu"):
        """x through `source` and Clip, and what follows of it."""
        dtype = helper.tensor_dtype_to_np_dtype(element)
        net = Net(opset=opset)
        net.input(shape=("N", 50), element=element)
        net.node(source, "x", "a")
        if attributes is None:
            for name, bound in zip(("low", "high"), bounds, strict=True):
                if bound != "":
                    net.constant(name, np.asarray(bound, dtype))
            names = [name if bound != "" else "" for name, bound in zip(("low", "high"), bounds, strict=True)]
            net.nodes.append(helper.make_node("Clip", ["a", *names], ["b"]))
        else:
            net.node("Clip", "a", "b", **attributes)
        net.node("Relu", "b", "c")
        net.constant("shape", np.array([-1, 5, 10], np.int64))
        net.node("Reshape", "c shape", "y")
        return net.model("y", element=element)

    def check(self, model, dtype=np.float32):
        draws = np.random.default_rng(2).standard_normal((7, 1, 50)).astype(dtype) * 4
        draws[0, 0, :4] = [6, -1, 1, 0]
        draws[3] = 0
        samples = [{"x": draw} for draw in draws]
        values = everything(model, samples)
        for name, statistics in collect(model, samples).items():
            assert statistics == counted(values[name]), name

    @pytest.mark.parametrize("source", ["Relu", "Neg"])
    @pytest.mark.parametrize(
        "attributes",
        [{"min": 0.0, "max": 6.0}, {"min": -1.0, "max": 1.0}, {"max": 6.0}, {"min": 0.0}, {"min": 1.0, "max": 6.0}, {}],
    )
    def test_clip_with_attributes(self, attributes, source):
        self.check(self.clip(8, attributes, source=source))

    @pytest.mark.parametrize("source", ["Relu", "Neg"])
    @pytest.mark.parametrize(
        "bounds", [(0, 6), (-1, 1), ("", 6), (0, ""), (0, 0.1), (2, 6), (0, np.inf), (0, 0), (0, -1), (-0.0, 1)]
    )
    def test_clip_with_inputs(self, bounds, source):
        self.check(self.clip(13, bounds=bounds, source=source))

    @pytest.mark.parametrize("element, dtype", [(TensorProto.FLOAT16, np.float16), (TensorProto.DOUBLE, np.float64)])
    def test_clip_in_other_precisions(self, element, dtype):
        self.check(self.clip(13, bounds=(0, 0.1), element=element, source="Neg"), dtype)

    def test_two_clips_of_one_tensor(self):
        net = Net()
        for name, value in (("zero", 0), ("one", 1), ("six", 6)):
            net.constant(name, np.float32(value))
        net.node("Clip", net.input(shape=("N", 50)) + " zero six", "a")
        net.node("Clip", "x zero one", "b")
        net.node("Clip", "a zero one", "c")
        net.node("Add", "a b", "y")
        self.check(net.model("y", "c"))

    def test_a_bound_that_is_computed(self):
        net = Net()
        net.constant("zero", np.float32(0))
        net.node("ReduceMax", net.input(shape=("N", 50)), "high", keepdims=0)
        net.node("Clip", "x zero high", "y")
        self.check(net.model("y"))

    def test_chains_that_only_move_values(self):
        net = Net()
        net.constant("shape", np.array([0, 5, 10], np.int64))
        net.constant("axis", np.array([1], np.int64))
        net.node("Neg", net.input(shape=("N", 50)), "a")
        net.node("Reshape", "a shape", "b")
        net.node("Transpose", "b", "c", perm=[0, 2, 1])
        net.node("Unsqueeze", "c axis", "d")
        net.node("Identity", "d", "e")
        net.node("Relu", "e", "f")
        net.node("Squeeze", "f axis", "g")
        net.node("Split", "g", "h i", axis=1)
        net.node("Flatten", "h", "y")
        self.check(net.model("y", "i"))

    def test_half_precision(self):
        net = Net()
        net.input(shape=("N", 50), element=TensorProto.FLOAT16)
        net.node("Mul", "x x", "squares")
        net.node("Sub", "squares x", "y")
        self.check(net.model("y", element=TensorProto.FLOAT16), np.float16)

    def test_integers_beside_floats(self):
        net = Net()
        net.input("x", ("N", 4))
        net.input("ids", ("N", 2), TensorProto.INT64)
        net.constant("table", np.arange(-12, 12, dtype=np.float32).reshape(6, 4))
        net.node("Gather", "table ids", "rows")
        net.node("ReduceSum", "rows", "summed", keepdims=1)
        net.node("Add", "summed x", "y")
        model = net.model("y")
        random = np.random.default_rng(0)
        samples = [
            {"x": random.integers(-9, 9, (1, 4)).astype(np.float32), "ids": random.integers(0, 6, (1, 2))}
            for _ in range(5)
        ]
        values = everything(model, samples)
        gathered = collect(model, samples)
        assert tuple(gathered) == ("x", "rows", "summed", "y")
        assert all(statistics == counted(values[name]) for name, statistics in gathered.items())

    def test_a_model_whose_initializers_are_inputs(self, shared_data):
        path = shared_data / "models" / "mnist_cnn.onnx"
        with np.load(shared_data / "images" / "mnist_test_2000.npz") as data:
            images = data["images"][:6, None].astype(np.float32)
        model = onnx.load(path)
        assert len(model.graph.input) > 1
        gathered = collect(path, [images])
        values = everything(model, [{model.graph.input[0].name: image[None]} for image in images])
        assert tuple(gathered) == activations(model)
        for name, statistics in gathered.items():
            assert statistics.samples == 6
            assert statistics.amax == pytest.approx(counted(values[name]).amax, rel=1e-4)


class TestWhatIsCollected:
    def test_only_the_quantizable_tensors_on_request(self):
        """With those whose ranges decide theirs, on either side of a pooling."""
        model = ZOO["pooled_concat"]().model
        samples = samples_of(model, 3)
        every, some = collect(model, samples), collect(model, samples, tensors="quantizable")
        assert tuple(some) == ("x", "a_relu", "highest", "average", "both")
        assert dict(some) == {name: every[name] for name in some}
        assert (every.provenance.tensors, some.provenance.tensors) == ("all", "quantizable")

    def test_groups_go_with_the_statistics(self):
        model = ZOO["constant_weights"]().model
        gathered = collect(model, samples_of(model, 2))
        assert gathered.groups == scale_groups(model)
        assert gathered.explicit_groups == scale_groups(model, through=COMMUTES)

    def test_provenance(self, tmp_path):
        path = tmp_path / "model.onnx"
        model = ZOO["gemm"]().model
        onnx.save(model, path)
        known = collect(path, samples_of(model, 7, batch=3)).provenance
        assert (known.model, known.count, known.images, known.seed) == (model_digest(path), 7, (), None)
        assert collect(model, samples_of(model, 2)).provenance.model == ""

    def test_progress_counts_samples(self):
        done = []
        model = ZOO["gemm"]().model
        collect(model, samples_of(model, 7, batch=3), progress=done.append)
        assert sum(done) == 7

    def test_lone_arrays(self):
        model = ZOO["gemm"]().model
        samples = samples_of(model, 4)
        assert dict(collect(model, [sample["x"] for sample in samples])) == dict(collect(model, samples))

    def test_several_inputs(self):
        model = ZOO["two_inputs"]().model
        samples = samples_of(model, 5)
        turned = [dict(reversed(batch.items())) for batch in batched(samples, 2)]
        assert dict(collect(model, turned)) == dict(collect(model, samples))

    def test_integer_pixels_become_floats_only_where_the_model_takes_them(self):
        net = Net()
        net.input(element=TensorProto.UINT8)
        net.node("Cast", "x", "a", to=TensorProto.FLOAT)
        net.conv("a", "y", 8, 8, 3, 3)
        pixels = np.full((2, 8, 8, 8), 255, np.uint8)
        gathered = collect(net.model("y"), [pixels])
        assert tuple(gathered) == ("a", "y")
        assert gathered["a"].amax == 255

    def test_external_data(self, tmp_path):
        """Weights in another file, and the bounds of Clip with them."""
        net = Net()
        net.constant("low", np.zeros((), np.float32))
        net.constant("high", np.full((), 5, np.float32))
        net.conv(net.input(), "a", 16, 8, 3, 3)
        net.node("Clip", "a low high", "b")
        net.conv("b", "y", 16, 16, 1, 1)
        whole_numbers(net)
        model, samples = net.model("y"), whole_samples((8, 8, 8), 3)
        path = tmp_path / "model.onnx"
        onnx.save(net.model("y"), path, save_as_external_data=True, location="data.bin", size_threshold=0)
        stored = onnx.load(path, load_external_data=False).graph.initializer
        assert all(tensor.data_location == TensorProto.EXTERNAL for tensor in stored)
        gathered = collect(path, samples)
        assert dict(gathered) == dict(collect(model, samples))
        assert tuple(collect(path, samples, tensors="quantizable")) == ("x", "b")

    def test_a_link_to_a_model_beside_its_external_data(self, tmp_path):
        model = ZOO["conv_bn_relu"]().model
        stored = ZOO["conv_bn_relu"]().model
        onnx.save(stored, tmp_path / "model.onnx", save_as_external_data=True, location="data.bin", size_threshold=100)
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "model.onnx").rename(tmp_path / "elsewhere" / "blob")
        (tmp_path / "model.onnx").symlink_to("elsewhere/blob")
        samples = samples_of(model, 2)
        assert dict(collect(tmp_path / "model.onnx", samples)) == dict(collect(model, samples))

    def test_a_model_over_2_gigabytes(self, tmp_path, monkeypatch):
        """A table of 2.2 GB, most of it a hole in the file, of which a few rows are read."""
        rows = (2**31 + 2**26) // 64
        net = Net()
        net.input("ids", ("N", 3), TensorProto.INT64)
        net.constant("table", np.zeros((1, 16), np.float32))
        net.node("Gather", "table ids", "rows")
        net.weight("w", 16, 8, fan_in=16)
        net.node("MatMul", "rows w", "y")
        model = net.model("y")
        table = next(tensor for tensor in model.graph.initializer if tensor.name == "table")
        table.CopyFrom(onnx.TensorProto(name="table", data_type=TensorProto.FLOAT, dims=[rows, 16]))
        table.data_location = TensorProto.EXTERNAL
        table.external_data.add(key="location", value="table.bin")
        onnx.save(model, tmp_path / "model.onnx")
        with (tmp_path / "table.bin").open("wb") as file:
            file.seek((rows - 1) * 64)
            file.write(np.arange(16, dtype=np.float32).tobytes())
        # Hashing 2 GB takes longer than all the rest; test_graph.py has digests of external data.
        monkeypatch.setattr(collecting, "model_digest", lambda model: "0" * 64)
        gathered = collect(tmp_path / "model.onnx", [{"ids": np.array([[0, 1, rows - 1]])}])
        assert {name: statistics.total for name, statistics in gathered.items()} == {"rows": 48, "y": 24}
        assert gathered["rows"].amax == 15
