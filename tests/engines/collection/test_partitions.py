"""Collection: the same samples give the same bits, however they are parted."""

import numpy as np
import onnx
import pytest

from engines.collection.collect import collect
from tests.engines.collection.exact import batched, counted, exact_network, whole_samples
from tests.engines.networks import Net, samples_of


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
