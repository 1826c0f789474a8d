"""Collection: what a pass over data remembers is what NumPy counts over every activation."""

from fractions import Fraction

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from calibrators.statistics.histogram import BINS, Histogram
from calibrators.statistics.tensor import TensorStatistics
from engines.collection import collect as collecting
from engines.collection.collect import collect
from engines.graph.model import activations, model_digest, scale_groups
from engines.graph.operators import COMMUTES
from tests.engines.networks import Net, samples_of
from tests.engines.zoo import ZOO


def counted(samples):
    """The statistics of a tensor, straight from their definitions."""

    def histogram(magnitudes):
        if magnitudes.size == 0:
            return Histogram.empty()
        exponent = int(np.frexp(magnitudes.max())[1])
        places = np.floor(magnitudes.astype(np.float64) * 2.0**-exponent * BINS).astype(np.int64)
        return Histogram(np.bincount(places, minlength=BINS).astype(np.int64), exponent, float(magnitudes.max()))

    def total(values):
        return int(sum(Fraction(float(value)) for value in values) * 2**149)

    samples = [np.asarray(sample, np.float32) for sample in samples]
    values = np.concatenate([sample.reshape(-1) for sample in samples])
    return TensorStatistics(
        positive=histogram(values[values > 0]),
        negative=histogram(-values[values < 0]),
        zeros=int((values == 0).sum()),
        samples=len(samples),
        highest_sum=total(sample.max(initial=0) for sample in samples),
        lowest_sum=total((-sample).max(initial=0) for sample in samples),
        absmax_sum=total(np.abs(sample).max(initial=0) for sample in samples),
    )


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


def whole_numbers(net):
    """Round the weights of a network to a few whole numbers, so that sums are exact in whatever order."""
    for name, array in net.constants.items():
        if array.dtype == np.float32 and array.ndim:
            net.constants[name] = np.rint(2 * array).clip(-3, 3).astype(array.dtype)


def whole_samples(shape, count, seed=1):
    random = np.random.default_rng(seed)
    return [{"x": random.integers(-4, 5, (1, *shape)).astype(np.float32)} for _ in range(count)]


def exact_network(batch="N", channels=8):
    """A bit of everything that is exact in whole numbers and halves."""
    net = Net()
    net.conv(net.input(shape=(batch, channels, 7, 7)), "a", 16, channels, 3, 3)
    net.node("Relu", "a", "a_relu")
    net.conv("a_relu", "b", 16, 16, 1, 1)
    net.constant("low", np.float32(0))
    net.constant("high", np.float32(20))
    net.node("Clip", "b low high", "b_clip")
    net.node("Add", "b_clip a_relu", "sum")
    net.node("MaxPool", "sum", "pooled", kernel_shape=[2, 2], strides=[2, 2])
    net.conv("pooled", "c", 16, 1, 3, 3, group=16)
    net.node("Neg", "c", "negative")
    net.node("Concat", "c negative", "both", axis=1)
    net.constant("shape", np.array([0, 32, 9], np.int64))
    net.node("Reshape", "both shape", "flat")
    net.node("Transpose", "flat", "turned", perm=[0, 2, 1])
    net.node("Abs", "turned", "magnitude")
    net.weight("w", 32, 4, fan_in=32)
    net.node("MatMul", "magnitude w", "y")
    whole_numbers(net)
    return net.model("y", "b_clip")


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


def batched(samples, size):
    return [
        {name: np.concatenate([sample[name] for sample in samples[start : start + size]]) for name in samples[0]}
        for start in range(0, len(samples), size)
    ]


def floating_network(channels=16):
    """Operators whose results depend in their last bits on how they are computed; odd sizes leave remainders."""
    net = Net()
    net.conv(net.input(shape=("N", 3, 11, 11)), "a", channels, 3, 3, 3)
    net.node("Sigmoid", "a", "a_sigmoid")
    net.node("Mul", "a a_sigmoid", "a_silu")
    net.conv("a_silu", "b", 2 * channels, channels, 3, 3, pads=[0, 0, 0, 0])
    net.node("Tanh", "b", "b_tanh")
    net.conv("b_tanh", "c", 2 * channels, 1, 3, 3, group=2 * channels)
    net.node("HardSigmoid", "c", "c_hard")
    net.conv("c_hard", "d", 2 * channels, 2 * channels, 1, 1)
    net.node("Elu", "d", "d_elu")
    net.node("Add", "d_elu b_tanh", "sum")
    net.node("GlobalAveragePool", "sum", "average")
    net.node("Flatten", "average", "flat")
    net.weight("w", 2 * channels, 10, fan_in=2 * channels)
    net.node("MatMul", "flat w", "scores")
    net.node("Softmax", "scores", "y")
    return net.model("y")


@pytest.fixture(scope="module")
def once():
    """A model, its samples, and their statistics from one thread and batches of one."""
    model = floating_network()
    samples = samples_of(model, 24)
    samples[5]["x"][:] = 0
    samples[6]["x"] *= 1000
    return model, samples, collect(model, samples, threads=1)


class TestPartitions:
    """The same samples in any batches, in any order and on any number of threads give the same bits."""

    @pytest.mark.parametrize("size", [3, 8, 24])
    def test_batches(self, once, size):
        model, samples, expected = once
        assert dict(collect(model, batched(samples, size))) == dict(expected)

    @pytest.mark.parametrize("threads", [2, 4, 8, None])
    def test_threads(self, once, threads):
        model, samples, expected = once
        assert dict(collect(model, samples, threads=threads)) == dict(expected)

    @pytest.mark.parametrize("first", range(8))
    def test_order(self, once, first):
        """Whichever sample comes first."""
        model, samples, expected = once
        assert dict(collect(model, samples[first:] + samples[:first])) == dict(expected)

    @pytest.mark.parametrize("first", [5, 6, 10])
    def test_shards(self, once, first):
        model, samples, expected = once
        assert dict(collect(model, samples[:first]) + collect(model, samples[first:])) == dict(expected)

    def test_of_a_real_model(self, shared_data):
        path = shared_data / "models" / "cifar10_resnet20.onnx"
        with np.load(shared_data / "images" / "cifar10_train_512.npz") as data:
            images = data["images"][:12].transpose(0, 3, 1, 2).astype(np.float32) / 255
        expected = dict(collect(path, [images], threads=1))
        assert dict(collect(path, list(images[::-1, None]), threads=4)) == expected
        assert dict(collect(onnx.load(path), np.split(images, 4))) == expected

    def test_a_fixed_batch_with_samples_left_over(self):
        """10 samples through a model that takes 4 at a time, and through the same model that takes any number."""
        samples = whole_samples((3, 7, 7), 10)
        expected = dict(collect(exact_network(channels=3), samples))
        assert expected["x"].samples == 10
        for size in (1, 3, 4, 10):
            assert dict(collect(exact_network(4, channels=3), batched(samples, size))) == expected

    @pytest.mark.parametrize("count", [1, 4, 5])
    def test_a_fixed_batch_whose_samples_lie_on_another_axis(self, count):
        """As recurrent networks have them: such a tensor counts as a whole, and none of its values is left out."""
        net = Net()
        net.node("Transpose", net.input(shape=(2, 4)), "turned", perm=[1, 0])
        net.node("Abs", "turned", "whole")
        net.node("Transpose", "whole", "y", perm=[1, 0])
        samples = [{"x": np.array([[1, 2, 3, -100 - place]], np.float32)} for place in range(count)]
        gathered = collect(net.model("y"), samples)
        assert gathered["x"] == counted([sample["x"] for sample in samples])
        assert gathered["whole"].amax == 99 + count
        assert gathered["whole"].total == 4 * (count + count % 2)

    def test_a_fixed_batch_of_one(self):
        samples = whole_samples((3, 7, 7), 3)
        assert dict(collect(exact_network(1, channels=3), batched(samples, 3))) == dict(
            collect(exact_network(channels=3), samples)
        )


class TestWhatIsCollected:
    def test_only_the_quantizable_tensors_on_request(self):
        """With those whose ranges decide theirs, on either side of an average pooling."""
        model = ZOO["pooled_concat"]().model
        samples = samples_of(model, 3)
        every, some = collect(model, samples), collect(model, samples, tensors="quantizable")
        assert tuple(some) == ("x", "a_relu", "average", "both")
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
