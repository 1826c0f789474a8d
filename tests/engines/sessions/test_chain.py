"""Versions of a model run segment by segment: the same as in one piece, and what they have in common is run once."""

import numpy as np
import onnx
import pytest
from onnx import helper

from calibrators.encoding import Encoding
from calibrators.errors import ModelError
from calibrators.grid import Grid
from engines.qdq.weights import WeightOptions
from engines.sessions import chain
from engines.sessions.chain import Chain
from engines.sessions.onnxruntime import OnnxRuntimeSession
from engines.simulation.simulated_model import LayerForm, Simulation
from tests.engines.networks import Net, attention, classifier, selector


def residual(batch="N"):
    """Skip connections over one block and over all, and outputs in the middle, of which layers read one."""
    net = Net()
    x = net.node("Relu", net.conv(net.input("x", (batch, 8, 8, 8)), "stem", 8, 8, 3, 3), "start")
    for block in ("a", "b", "c"):
        y = net.node("Relu", net.conv(x, f"{block}1", 8, 8, 3, 3), f"{block}r")
        x = net.node("Add", f"{net.conv(y, f'{block}2', 8, 8, 3, 3)} {x}", f"{block}_sum")
    net.node("Add", f"{net.conv(x, 'last', 8, 8, 1, 1)} start", "far")
    return net.model("far", "ar", "b_sum", "c2")


def two_inputs():
    net = Net()
    a, b = net.input("left", ("N", 4, 8, 8)), net.input("right", ("N", 4, 8, 8))
    x = net.node("Relu", net.conv(a, "one", 4, 4, 3, 3), "first")
    y = net.node("Relu", net.conv(x, "two", 4, 4, 3, 3), "second")
    z = net.node("Add", f"{y} {b}", "sum")
    net.node("Shape", "first", "size")
    net.node("Relu", net.conv(z, "three", 4, 4, 3, 3), "third")
    net.node("Reshape", "third size", "same")
    net.conv("same", "four", 4, 4, 3, 3)
    return net.model("four")


def branching():
    """An If whose branches read a tensor of the first layer."""
    net = Net()
    net.node("Relu", net.conv(net.input("x", ("N", 4, 8, 8)), "one", 4, 4, 3, 3), "first")
    net.node("Relu", net.conv("first", "two", 4, 4, 3, 3), "second")
    net.node("ReduceMax", "second", "most", keepdims=0)
    net.node("Greater", f"most {net.constant('bound', np.float32(0.5))}", "large")
    branches = {}
    for name, operator in (("then", "Neg"), ("else", "Abs")):
        out = helper.make_tensor_value_info(f"{name}_out", onnx.TensorProto.FLOAT, None)
        node = helper.make_node(operator, ["first"], [f"{name}_out"], name=f"{name}/node")
        branches[f"{name}_branch"] = helper.make_graph([node], name, [], [out])
    net.node("If", "large", "chosen", **branches)
    net.node("Add", "chosen second", "sum")
    net.conv("sum", "three", 4, 4, 3, 3)
    return net.model("three")


MODELS = {
    "residual": residual(),
    "fixed batch": residual(4),
    "two inputs": two_inputs(),
    "a branch": branching(),
    "sizes by data": selector(),
    "attention": attention(),
    "classifier": classifier(),
}


@pytest.fixture(params=MODELS)
def work(request):
    """A simulation, a chain, and a batch of 4."""
    simulation = Simulation(MODELS[request.param])
    with OnnxRuntimeSession(simulation.floats) as session:
        inputs = session.inputs
    random, count = np.random.default_rng(1), 1 if "data" in request.param else 4
    fixed = [[size if isinstance(size, int) else count for size in spec.shape] for spec in inputs]
    batch = {
        spec.name: random.standard_normal((count, *shape[1:])).astype(np.float32)
        for spec, shape in zip(inputs, fixed, strict=True)
    }
    return simulation, Chain(simulation, inputs, memory=10**8), batch


def forms_of(simulation, *, scale=0.05, bits=8, half=False):
    grid = Grid(bits=bits)
    activation = Encoding(np.float32(scale * 2 ** (8 - bits)), np.int32(0), grid)
    return {
        layer.name: LayerForm(half=True)
        if half
        else LayerForm(activation, layer.weight and simulation.weight_encoding(layer.name, WeightOptions()))
        for layer in simulation.layers
    }


def in_one_piece(simulation, forms, batch):
    with OnnxRuntimeSession(simulation.version(forms)) as session:
        return session.run(batch)


def same(found, expected, *, steps=1e-5):
    """But for values that lie between two levels, which a float's rounding may move from one to the other."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert (found[name].shape, found[name].dtype) == (value.shape, value.dtype)
        scale = float(np.abs(value).max(initial=1e-6))
        apart = np.abs(found[name].astype(np.float64) - value)
        assert np.median(apart) <= steps * scale
        assert apart.mean() <= 2e-3 * scale


@pytest.mark.parametrize("kind", ["int8", "half", "wide"])
def test_a_version_is_the_one_in_one_piece(work, kind):
    simulation, made, batch = work
    every = forms_of(simulation, half=kind == "half", bits=16 if kind == "wide" else 8)
    first = dict(list(every.items())[:1])
    middle = dict(list(every.items())[len(every) // 2 :][:1])
    but = {name: form for name, form in every.items() if name not in middle}
    steps = 2**-11 if kind == "half" else 1e-5
    for forms in ({}, every, first, middle, but, {**but, **first}):
        same(made.run(forms, batch, 0), in_one_piece(simulation, forms, batch), steps=steps)
    assert all(plan is not None for plan in made._plans.values())


def test_nothing_changed_is_no_difference(work):
    simulation, made, batch = work
    before = made.run({}, batch, 0)
    made.run(forms_of(simulation), batch, 0)
    after = made.run({name: LayerForm() for name in forms_of(simulation)}, batch, 0)
    assert all(np.array_equal(before[name], after[name]) for name in before)


@pytest.fixture
def steps(monkeypatch):
    """The numbers of the segments that are run."""
    run, step = [], Chain._step

    def counted(self, plan, place, *rest):
        run.append(place)
        return step(self, plan, place, *rest)

    monkeypatch.setattr(Chain, "_step", counted)
    return run


@pytest.mark.parametrize("all_but", [False, True])
def test_what_lies_before_is_run_once(steps, all_but):
    simulation = Simulation(residual())
    with OnnxRuntimeSession(simulation.floats) as session:
        made = Chain(simulation, session.inputs, memory=10**8)
    batch = {"x": np.random.default_rng(1).standard_normal((4, 8, 8, 8)).astype(np.float32)}
    every = forms_of(simulation)
    whole = every if all_but else {}
    made.run(whole, batch, 0)
    count = len(set(steps))
    assert count > 4
    last = "last/Conv"
    changed = {name: form for name, form in every.items() if (name == last) != all_but}
    made.run(changed, batch, 0)
    steps.clear()
    other = {last: LayerForm(activation=every[last].activation)}
    expected = made.run({**changed, **other}, batch, 0)
    assert len(steps) <= 3
    steps.clear()
    fresh = Chain(simulation, made.inputs, memory=0).run({**changed, **other}, batch, 0)
    assert len(steps) == count
    assert all(np.array_equal(expected[name], fresh[name]) for name in fresh)


def test_groups_are_kept_apart():
    simulation = Simulation(residual())
    with OnnxRuntimeSession(simulation.floats) as session:
        made = Chain(simulation, session.inputs, memory=10**8)
    random = np.random.default_rng(1)
    batches = [{"x": random.standard_normal((4, 8, 8, 8)).astype(np.float32)} for _ in range(3)]
    for name, form in list(forms_of(simulation).items())[::3]:
        for group, batch in enumerate(batches):
            same(made.run({name: form}, batch, group), in_one_piece(simulation, {name: form}, batch))


def test_what_does_not_run_in_segments_runs_in_one_piece(monkeypatch):
    simulation = Simulation(residual())
    with OnnxRuntimeSession(simulation.floats) as session:
        made = Chain(simulation, session.inputs, memory=10**8)
    batch = {"x": np.random.default_rng(1).standard_normal((4, 8, 8, 8)).astype(np.float32)}

    def refused(*_, **__):
        raise ModelError("no")

    monkeypatch.setattr(chain, "in_memory", refused)
    expected = in_one_piece(simulation, forms_of(simulation), batch)
    found = made.run(forms_of(simulation), batch, 0)
    assert all(np.array_equal(found[name], expected[name]) for name in found)
