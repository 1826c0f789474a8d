"""Forwards as graphs: what they compute stays the same, in both modes; what cannot be traced is named."""

import copy
import io

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra [torch])")

from torch import nn
from torch.nn import functional

from calibrators.errors import ModelError
from tests.trtcal.qat.networks import Attention, Branching, Inverted, Padded, Residual, images
from trtcal.qat.tracing import OWNER, TracedModel, traced


def of(model, modes=(True, False), leaves=()):
    trace = traced(model, leaves=leaves, modes=modes)
    assert trace.graph is not None, trace.opaque
    return TracedModel(model, trace.graph)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", [Residual, Inverted])
def test_the_traced_model_computes_the_same(kind, training):
    model = kind().train(training)
    made, x = of(model), images()
    assert made.training == training and all(each.training == training for each in model.modules())
    other = copy.deepcopy(model)
    torch.manual_seed(0)
    expected = other(x)
    torch.manual_seed(0)
    assert torch.equal(made(x), expected)


def test_modules_attributes_and_state_dict_are_the_original_s():
    model = Residual()
    model.classes = 10
    made = of(model)
    assert made.layer1[0].conv1 is model.layer1[0].conv1 and made.classes == 10
    assert made.state_dict().keys() == model.state_dict().keys()
    assert "TracedResidual" in repr(made)


class Dropping(nn.Module):
    """Asks whether it is trained, in arguments and in what it does."""

    def __init__(self, branches=False):
        super().__init__()
        self.conv, self.spare = nn.Conv2d(3, 3, 1), nn.Linear(2, 2)
        self.branches = branches

    def forward(self, x, scale=1.0, mask=None, double=False):
        x = functional.dropout(self.conv(x) * scale, 0.5, self.training)
        if mask is not None:
            x = x * mask
        if double:
            x = 2 * x
        if self.branches and self.training:
            x = x + 1
        return x


def test_dropout_follows_the_mode_of_its_module():
    model, x = Dropping(), images()
    made = of(model)
    assert (made.train()(x) == 0).any()
    assert torch.equal(made.eval()(x), model.eval()(x))
    of_one_mode = of(model, modes=(False,))
    assert torch.equal(of_one_mode.train()(x), model.eval()(x))


def test_arguments_with_a_default_are_taken_at_it_and_others_refused():
    made, x = of(Dropping().eval()), images()
    expected = made(x)
    assert torch.equal(made(x, mask=None), expected) and torch.equal(made(x, 1.0, double=False), expected)
    for wrong in ({"mask": torch.ones(1)}, {"double": True}, {"scale": 2.0}):
        with pytest.raises(ModelError, match=f"Dropping was quantized with {next(iter(wrong))}=.*another value"):
            made(x, **wrong)
    with pytest.raises(TypeError, match="missing a required argument: 'x'"):
        made()


def test_another_way_in_training_cannot_be_traced_for_both_modes():
    model = Dropping(branches=True)
    trace = traced(model, leaves=(), modes=(True, False))
    assert trace.graph is None and trace.opaque == {"": "its forward computes other things in training"}
    assert traced(model, leaves=(), modes=(False,)).graph is not None
    inside = nn.Sequential(model)
    trace = traced(inside, leaves=(), modes=(True, False))
    assert trace.graph is not None and set(trace.opaque) == {"0"}


def test_a_part_that_cannot_be_traced_is_taken_as_a_whole():
    model, x = Branching().eval(), images()
    trace = traced(model, leaves=(), modes=(False,))
    assert set(trace.opaque) == {"branch"} and "control flow" in trace.opaque["branch"]
    assert torch.equal(TracedModel(model, trace.graph)(x), model(x))


class Any(nn.Module):
    def forward(self, *given):
        return given[0]


def test_a_model_that_cannot_be_traced_says_why():
    trace = traced(Any(), leaves=(), modes=(False,))
    assert trace.graph is None and trace.opaque == {"": "its forward takes any number of arguments"}


def test_nodes_know_whose_forward_they_are_in():
    graph = traced(Residual(), leaves=(), modes=(False,)).graph
    owners = {node.name: node.meta[OWNER] for node in graph.nodes}
    assert owners["add"] == owners["layer1_0_conv1"] == "layer1.0"
    assert owners["add_2"] == "layer2" and owners["flatten"] == owners["fc"] == ""


def test_leaves_are_not_looked_into():
    graph = traced(nn.Sequential(Padded(4, 8)), leaves=(Padded,), modes=(False,)).graph
    assert [node.target for node in graph.nodes if node.op == "call_module"] == ["0"]


@pytest.mark.parametrize("go_around", ["copy", "pickle"])
def test_it_can_be_copied_and_pickled(go_around):
    made, x = of(Attention().eval()), images(2, 5, 12)
    expected = made(x)
    if go_around == "copy":
        other = copy.deepcopy(made)
    else:
        file = io.BytesIO()
        torch.save(made, file)
        file.seek(0)
        other = torch.load(file, weights_only=False)
    assert other.query.weight is not made.query.weight
    assert torch.equal(other(x), expected)


class Two(nn.Module):
    """Two layers to add, in which the forwards below do something that a graph cannot hold."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 3, padding=1), nn.Sequential(nn.Conv2d(3, 3, 1))
        self.register_buffer("mean", torch.zeros(3))
        self.seen, self.last, self.calls = [], None, 0

    def forward(self, x):
        return torch.relu(self.first(x) + self.second(x))


class Remembers(Two):
    def forward(self, x):
        self.last = self.first(x)
        return self.last + self.second(x)


class Collects(Two):
    def forward(self, x):
        self.seen.append(self.first(x))
        return self.seen[-1] + self.second(x)


class Counts(Two):
    def forward(self, x):
        self.mean += 1
        return self.first(x) + self.second(x)


class WithoutGradients(Two):
    def forward(self, x):
        with torch.no_grad():
            x = self.first(x)
        return x + self.second(x)


class WithoutAutocast(Two):
    def forward(self, x):
        with torch.autocast("cpu", enabled=False):
            x = self.first(x)
        return x + self.second(x)


class Noisy(Two):
    def forward(self, x):
        return self.first(x) + self.second(x) + torch.randn(3, 1, 1)


@pytest.mark.parametrize(
    "kind, why",
    [
        (Remembers, "sets its attribute last"),
        (Collects, "sets its attribute seen"),
        (Counts, "mean"),
        (WithoutGradients, "without gradients"),
        (WithoutAutocast, "switches autocast"),
        (Noisy, "other things in training"),
    ],
)
def test_a_forward_that_does_what_a_graph_cannot_hold_is_taken_as_it_is(kind, why):
    model = kind().train()
    before = {name: value for name, value in model.__dict__.items() if name != "seen"}
    trace = traced(model, leaves=(), modes=(True, False))
    assert trace.graph is None and why in trace.opaque[""]
    assert model.seen == [] and not model.mean.any()
    assert model.__dict__.keys() - {"seen"} == before.keys()
    assert all(model.__dict__[name] is value for name, value in before.items())


def test_gradients_do_not_matter_after_training():
    assert traced(WithoutGradients().eval(), leaves=(), modes=(False,)).graph is not None


def test_a_container_s_hooks_are_called_with_tensors():
    seen = []
    model = Two().eval()
    model.second.register_forward_hook(lambda module, given, result: seen.append(result))
    trace = traced(model, leaves=(), modes=(False,))
    assert seen == [] and trace.opaque == {"second": "it has hooks, which see tensors"}
    TracedModel(model, trace.graph)(images())
    assert [type(each) for each in seen] == [torch.Tensor]


class Sliced(Two):
    """Takes as much of a parameter and of a buffer as there is input."""

    def __init__(self):
        super().__init__()
        self.position = nn.Parameter(torch.randn(1, 3, 1, 40))
        self.register_buffer("kept", torch.ones(40, 40).tril())

    def forward(self, x):
        length = x.size(3)
        x = x + self.position[:, :, :, :length]
        return (self.first(x) + self.second(x)) @ self.kept[:length, :length]


@pytest.mark.parametrize("modes", [(True, False), (False,)])
def test_slices_as_long_as_the_input_are_traced(modes):
    model, x = Sliced().eval(), images()
    made = of(model, modes)
    assert torch.equal(made(x), model(x)) and torch.equal(made(x[..., :5, :5]), model(x[..., :5, :5]))


class Normalizes(Two):
    def forward(self, x):
        x = x * torch.full((3, 1, 1), 0.5) - (self.mean * 2).view(3, 1, 1)
        return self.first(x) + self.second(x)


def test_buffers_are_read_when_the_graph_runs():
    model, x = Normalizes().train(), images()
    trace = traced(model, leaves=(), modes=(True, False))
    assert not any(name.startswith("_tensor_constant") for name in model.__dict__)
    made = copy.deepcopy(TracedModel(model, trace.graph))
    made.mean.fill_(3.0)
    model.mean.fill_(3.0)
    torch.testing.assert_close(made(x), model(x))
