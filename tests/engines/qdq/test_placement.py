"""Where quantization goes: operators with weights, skip inputs, and reasons for the rest."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from calibrators.errors import ModelError
from engines.passes.prepare import prepared
from engines.qdq.placement import planned
from tests.engines.networks import Net
from tests.engines.zoo import ZOO


def skips(model):
    """The places of a plan that have no weight: (node, tensor)."""
    sites = planned(prepared(model)).sites
    return {(site.node.name, site.tensor) for site in sites if site.weight is None}


@pytest.mark.parametrize("name", ZOO)
def test_the_zoo(name):
    network = ZOO[name]()
    plan = planned(prepared(network.model))
    assert {site.tensor for site in plan.sites} == network.quantized
    assert set(plan.left) == set(network.left)
    for label, why in network.left.items():
        assert why in plan.left[label]
    axes = {site.node.inputs[site.weight.input].name: site.weight.axis for site in plan.sites if site.weight}
    assert network.weights.items() <= axes.items()


@pytest.mark.parametrize("name", ZOO)
def test_sites_are_in_topological_order(name):
    model = prepared(ZOO[name]().model)
    order = {node: place for place, node in enumerate(model.graph)}
    places = [order[site.node] for site in planned(model).sites]
    assert places == sorted(places)


class TestResidualAdds:
    def block(self, net, skip="stem_relu"):
        """A stem, and the convolution `b` that an Add is to fuse into."""
        net.conv(net.input(), "stem", 8, 8, 3, 3)
        net.node("Relu", "stem", "stem_relu")
        net.conv("stem_relu", "a", 8, 8, 3, 3)
        net.node("Relu", "a", "a_relu")
        net.conv("a_relu", "b", 8, 8, 3, 3)
        return skip

    @pytest.mark.parametrize("inputs", ["b stem_relu", "stem_relu b"])
    def test_the_skip_of_either_side(self, inputs):
        net = Net()
        self.block(net)
        net.node("Add", inputs, "y")
        assert skips(net.model("y")) == {("y/Add", "stem_relu")}

    @pytest.mark.parametrize("inputs", ["b down", "down b"])
    def test_of_two_convolutions_the_one_on_the_shorter_path(self, inputs):
        net = Net()
        self.block(net)
        net.conv("stem_relu", "down", 8, 8, 1, 1)
        net.node("Add", inputs, "y")
        assert skips(net.model("y")) == {("y/Add", "down")}

    def test_of_two_as_near_the_second(self):
        net = Net()
        net.conv(net.input(), "a", 8, 8, 3, 3)
        net.conv("x", "b", 8, 8, 3, 3)
        net.node("Add", "a b", "y")
        assert skips(net.model("y")) == {("y/Add", "b")}

    def test_an_input_of_the_model(self):
        net = Net()
        net.conv(net.input(), "a", 8, 8, 3, 3)
        net.node("Add", "a x", "y")
        assert skips(net.model("y")) == {("y/Add", "x")}

    def test_behind_batch_normalization_that_cannot_be_folded(self):
        """Its convolution shares its weights, and fuses all the same."""
        net = Net()
        net.weight("w", 8, 8, 3, 3)
        for source, to in ((net.input(), "a"), ("a_bn", "b")):
            net.node("Conv", f"{source} w", to, pads=[1, 1, 1, 1])
            net.batch_norm(to, f"{to}_bn", 8)
        net.node("Add", "b_bn x", "y")
        assert skips(net.model("y")) == {("y/Add", "x")}

    def test_sums_of_sums(self):
        """The first block's sum is the second one's skip."""
        net = Net()
        self.block(net)
        net.node("Add", "b stem_relu", "first")
        net.conv("first", "c", 8, 8, 3, 3)
        net.node("Add", "c first", "y")
        assert skips(net.model("y")) == {("first/Add", "stem_relu"), ("y/Add", "first")}

    @pytest.mark.parametrize(
        "inputs, outputs",
        [
            ("stem_relu stem_relu", "y"),  # one tensor twice
            ("a_relu stem_relu", "y b"),  # an activation between convolution and sum
            ("b stem_relu", "y b"),  # the convolution's output is the model's too
            ("b bias", "y"),  # a constant
        ],
    )
    def test_sums_that_fuse_into_no_convolution(self, inputs, outputs):
        net = Net()
        self.block(net)
        net.constant("bias", np.ones((1, 8, 1, 1), np.float32))
        net.node("Add", inputs, "y")
        assert skips(net.model(*outputs.split())) == set()

    def test_a_convolution_that_others_read_too_does_not_fuse(self):
        net = Net()
        self.block(net)
        net.node("Add", "b stem_relu", "sum")
        net.node("Sigmoid", "b", "gate")
        net.node("Mul", "sum gate", "y")
        assert skips(net.model("y")) == set()

    def test_a_sum_that_broadcasts_is_no_residual(self):
        net = Net()
        self.block(net)
        net.node("GlobalAveragePool", "stem_relu", "average")
        net.node("Add", "b average", "y")
        assert skips(net.model("y")) == set()

    def test_sums_of_matrix_products_stay_as_they_are(self):
        net = Net()
        net.weight("w", 16, 16)
        net.node("MatMul", net.input(shape=("N", 16)) + " w", "a")
        net.node("Add", "a x", "y")
        assert skips(net.model("y")) == set()


class TestOtherSpellings:
    """A residual addition is one, however the exporter writes it."""

    def net(self):
        net = Net()
        net.conv(net.input(), "stem", 8, 8, 3, 3)
        net.node("Relu", "stem", "skip")
        net.conv("skip", "b", 8, 8, 3, 3)
        net.constant("one", np.float32(0.5))
        net.constant("channels", np.arange(1, 9, dtype=np.float32).reshape(1, 8, 1, 1))
        net.constant("short", np.arange(1, 9, dtype=np.float32).reshape(8, 1, 1))
        net.constant("everywhere", np.ones((1, 8, 8, 8), np.float32))
        net.constant("columns", np.arange(8, dtype=np.float32))
        return net

    @pytest.mark.parametrize("inputs, found", [("b skip", True), ("skip b", True), ("b skip x", True), ("b", False)])
    def test_a_sum(self, inputs, found):
        """Of three, TensorRT adds up the first two first."""
        net = self.net()
        net.node("Sum", inputs, "y")
        assert skips(net.model("y")) == ({("y/Sum", "skip")} if found else set())

    @pytest.mark.parametrize("constant", ["one", "channels", "short"])
    @pytest.mark.parametrize("steps", ["Add", "Mul Add", "Add Mul", "Sub", "Div Sub"])
    def test_behind_a_scale_and_a_bias_of_each_channel(self, steps, constant):
        net = self.net()
        value = "b"
        for place, operator in enumerate(steps.split()):
            turned = place % 2 and operator in ("Add", "Mul")
            value = net.node(operator, f"{constant} {value}" if turned else f"{value} {constant}", f"step{place}")
        net.node("Add", f"{value} skip", "y")
        assert skips(net.model("y")) == {("y/Add", "skip")}

    @pytest.mark.parametrize("constant", ["everywhere", "columns"])
    def test_not_behind_a_constant_that_differs_within_a_channel(self, constant):
        net = self.net()
        net.node("Add", f"b {constant}", "biased")
        net.node("Add", "biased skip", "y")
        assert skips(net.model("y")) == set()

    def test_not_behind_a_difference_from_a_constant(self):
        net = self.net()
        net.node("Sub", "one b", "turned")
        net.node("Add", "turned skip", "y")
        assert skips(net.model("y")) == set()

    def test_not_behind_a_bias_that_others_read(self):
        net = self.net()
        net.node("Add", "b channels", "biased")
        net.node("Add", "biased skip", "y")
        assert skips(net.model("y", "biased")) == set()

    @pytest.mark.parametrize("operator", ["Add", "Sum"])
    @pytest.mark.parametrize("size", [8, "free"])
    def test_a_value_for_each_channel_is_no_residual_whatever_the_size(self, operator, size):
        net = Net()
        net.conv(net.input(shape=("N", 8, size, size)), "a", 8, 8, 3, 3)
        net.node("GlobalAveragePool", "x", "average")
        net.node(operator, "a average", "y")
        assert skips(net.model("y")) == set()

    @pytest.mark.parametrize("batch", [1, "N"])
    def test_a_residual_of_free_sizes_is_one(self, batch):
        net = Net()
        net.conv(net.input(shape=(batch, 8, "height", "width")), "a", 8, 8, 3, 3)
        net.node("Add", "a x", "y")
        assert skips(net.model("y")) == {("y/Add", "x")}


class TestSkipsThatMove:
    """A pair goes before the Slice and Pad of a skip, unless somebody else reads what is in between."""

    def skip(self, *, value=None, mode="constant", reader=False, outputs=("y",)):
        net = Net()
        net.conv(net.input(), "stem", 8, 8, 3, 3)
        net.node("Relu", "stem", "stem_relu")
        net.conv("stem_relu", "a", 16, 8, 3, 3, strides=[2, 2])
        for name, values in (("start", [0, 0]), ("stop", [8, 8]), ("axes", [2, 3]), ("step", [2, 2])):
            net.constant(name, np.array(values, np.int64))
        net.node("Slice", "stem_relu start stop axes step", "sliced")
        net.constant("pads", np.array([0, 4, 0, 0, 0, 4, 0, 0], np.int64))
        names = "sliced pads"
        if value is not None:
            names += " " + net.constant("value", np.float32(value))
        net.node("Pad", names, "padded", mode=mode)
        net.node("Add", "a padded", "sum")
        net.node("Mul" if reader else "Relu", "sum padded" if reader else "sum", "y")
        return skips(net.model(*outputs))

    @pytest.mark.parametrize("value", [None, 0])
    def test_before_both(self, value):
        assert self.skip(value=value) == {("sliced/Slice", "stem_relu")}

    @pytest.mark.parametrize(
        "options", [{"value": 1}, {"mode": "reflect"}, {"reader": True}, {"outputs": ("y", "padded")}]
    )
    def test_not_before_a_pad_that_brings_values_or_has_readers(self, options):
        assert self.skip(**options) == {("sum/Add", "padded")}

    def test_not_before_a_slice_with_readers(self):
        assert self.skip(outputs=("y", "sliced")) == {("padded/Pad", "sliced")}

    def test_not_before_a_split_whose_other_part_somebody_reads(self):
        net = Net()
        net.node("Split", net.input(), "one two", axis=1)
        net.conv("one", "a", 4, 4, 3, 3)
        net.node("Add", "a two", "y")
        assert skips(net.model("y")) == {("y/Add", "two")}

    @pytest.mark.parametrize("axis, tensor", [(1, "sliced"), (-3, "sliced"), (2, "x")])
    def test_not_before_what_takes_some_of_the_channels(self, axis, tensor):
        """Those may be values much smaller than the others."""
        net = Net()
        for name, value in (("start", 0), ("stop", 4), ("axis", axis)):
            net.constant(name, np.array([value], np.int64))
        net.node("Slice", net.input() + " start stop axis", "sliced")
        channels, height = (8, 4) if axis == 2 else (4, 8)
        net.conv(net.input("other", ("N", 8, height, 8)), "a", channels, 8, 3, 3)
        net.node("Add", "a sliced", "y")
        assert {found for _, found in skips(net.model("y"))} == {tensor}


class TestLeftInFloat:
    def left(self, net, *outputs, **options):
        return dict(planned(prepared(net.model(*outputs, **options))).left)

    def anchored(self):
        """A network that has one operator to quantize at least."""
        net = Net()
        net.weight("w", 16, 16)
        net.node("MatMul", net.input(shape=(16, 16)) + " w", "a")
        return net

    def test_weights_from_the_data(self):
        net = Net()
        net.conv(net.input("x", ("N", 8, 8, 8)), "a", 8, 8, 3, 3)
        net.node("Conv", "a " + net.input("kernels", (8, 8, 3, 3)), "y")
        assert self.left(net, "y") == {"y/Conv": "its weights are computed at run time"}

    def test_a_transposed_activation(self):
        net = self.anchored()
        net.node("Gemm", "a w", "y", transA=1)
        assert self.left(net, "y") == {"y/Gemm": "it transposes its activation"}

    def test_double_precision(self):
        net = self.anchored()
        net.constant("wide", np.ones((16, 4)))
        net.node("Cast", "a", "a_wide", to=TensorProto.DOUBLE)
        net.node("MatMul", "a_wide wide", "y")
        assert self.left(net, "y", element=TensorProto.DOUBLE) == {"y/MatMul": "its weights are DOUBLE"}

    def test_products_of_constants_are_folded_and_no_matter(self):
        net = self.anchored()
        net.node("MatMul", "w w", "square")
        net.node("Add", "a square", "y")
        assert self.left(net, "y") == {}

    def test_operators_of_other_domains_are_no_matter(self):
        net = self.anchored()
        net.node("MatMul", "a w", "y", domain="com.example")
        assert self.left(net, "y") == {}

    def test_unnamed_operators_are_named_by_their_output(self):
        net = Net(named=False)
        net.weight("w", 16, 16)
        net.node("MatMul", net.input(shape=(16, 16)) + " w", "a")
        net.node("MatMul", "a a", "y")
        assert set(self.left(net, "y")) == {"MatMul -> y"}


def test_what_a_branch_gives_is_an_activation_though_its_condition_is_none():
    """The condition depends on the shape only, and the branches take `x` from outside."""
    net = Net()
    net.node("Shape", net.input(), "shape")
    net.node("ReduceMax", "shape", "largest", keepdims=0)
    net.constant("many", np.array(64, np.int64))
    net.node("Greater", "largest many", "large")
    output = [helper.make_tensor_value_info("inner", TensorProto.FLOAT, ["N", 8, 8, 8])]
    graphs = {
        branch: helper.make_graph([helper.make_node(operator, ["x"], ["inner"])], branch, [], output)
        for branch, operator in (("then_branch", "Relu"), ("else_branch", "Neg"))
    }
    net.node("If", "large", "chosen", **graphs)
    net.conv("chosen", "y", 8, 8, 3, 3)
    assert [site.tensor for site in planned(prepared(net.model("y"))).sites] == ["chosen"]


@pytest.mark.parametrize("element", [TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_half_precision_is_no_obstacle(element):
    net = Net()
    net.input(shape=("N", 16), element=element)
    net.constant("w", np.ones((16, 4), helper.tensor_dtype_to_np_dtype(element)))
    net.node("MatMul", "x w", "y")
    (site,) = planned(prepared(net.model("y", element=element))).sites
    assert (site.tensor, site.node.inputs[1].dtype) == ("x", ir.DataType.FLOAT)


class TestRefusals:
    def refused(self, model):
        with pytest.raises(ModelError) as caught:
            planned(prepared(model))
        assert len(str(caught.value).splitlines()) == 1
        return str(caught.value)

    def test_a_quantized_model(self):
        net = Net()
        net.constant("scale", np.float32(0.1))
        net.constant("zero", np.int8(0))
        net.node("QuantizeLinear", net.input() + " scale zero", "q")
        net.node("DequantizeLinear", "q scale zero", "dq")
        net.conv("dq", "y", 8, 8, 3, 3)
        assert self.refused(net.model("y")) == "the model is quantized already: give the float model"

    def test_nothing_to_quantize(self):
        net = Net()
        net.node("Relu", net.input(), "y")
        assert self.refused(net.model("y")).startswith("the model has no layer to quantize (Conv, ")

    def test_nothing_that_can_be_quantized_says_why(self):
        net = Net()
        net.node("MatMul", net.input(shape=(8, 8)) + " x", "y")
        message = self.refused(net.model("y"))
        assert message.endswith("; y/MatMul is not one, for both of its operands are activations")

    def test_what_reads_shapes_alone(self):
        net = Net()
        net.node("Shape", net.input(), "shape")
        net.node("Cast", "shape", "sizes", to=TensorProto.FLOAT)
        net.weight("w", 4, 16)
        net.node("MatMul", "sizes w", "y")
        message = self.refused(net.model("y"))
        assert message.endswith("; y/MatMul is not one, for it works on constants and shapes alone")


def test_an_operator_without_weights_is_no_layer():
    """As in a damaged model; the checker knows no operators of opsets to come."""
    net = Net()
    net.conv(net.input(), "a", 8, 8, 3, 3)
    net.node("Conv", "a", "b")
    plan = planned(ir.from_proto(net.model("b")))
    assert ([site.node.name for site in plan.sites], dict(plan.left)) == (["a/Conv"], {"b/Conv": "it has no weights"})
