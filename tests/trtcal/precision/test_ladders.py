"""What groups of layers can be switched to: levels, forms, costs, and the settings that say the same in a file."""

import pytest

from calibrators.errors import ModelError
from engines.collection.collect import collect
from engines.simulation.costs import inferred_shapes, macs
from engines.simulation.simulated_model import FLOAT, LayerForm, Simulation
from tests.engines.networks import samples_of
from tests.engines.zoo import ZOO
from trtcal.config.layer_forms import layer_forms
from trtcal.config.settings import QuantConfig
from trtcal.precision.ladders import at_least_int8, ladders, modelled

ALL = ("int8", "fp16", "fp32")


@pytest.fixture(scope="module")
def block():
    """A residual block between two convolutions: groups of one, three and one layers."""
    model = ZOO["identity_skip"]().model
    simulation = Simulation(model)
    return simulation, collect(model, samples_of(model, 4)), macs(simulation.layers, inferred_shapes(simulation.floats))


def made(block, config, *, candidates=ALL, costs=None):
    simulation, statistics, counts = block
    settings = config.settings(simulation.layers).layers
    return ladders(
        simulation,
        statistics,
        method="minmax",
        configured=settings,
        costs=costs or modelled(counts, settings),
        candidates=candidates,
    )


def test_of_plain_int8(block):
    found = made(block, QuantConfig())
    assert [group.layers for group in found.groups] == [("stem/Conv",), ("a/Conv", "b/Conv", "sum/Add"), ("y/Conv",)]
    for group in found.groups:
        assert [group.names[level] for level in group.levels] == ["int8", "fp16", "fp32"]
        assert group.costs[2] == 2 * group.costs[0]
        assert group.costs[3] == 4 * group.costs[0]
    assert (found.fixed, found.fixed_cost, found.left) == ({}, 0, {})
    assert found.total((3, 3, 3)) == found.whole["fp32"]
    assert found.total((2, 2, 2)) == found.whole["fp16"]
    assert found.total((0, 0, 0)) == found.whole["int8"]


def test_forms_are_those_of_the_configuration_and_what_it_is_switched_to(block):
    simulation, statistics, _ = block
    found = made(block, QuantConfig())
    assert found.forms((0, 0, 0)) == layer_forms(simulation, statistics, "minmax").forms
    mixed = found.forms((0, 2, 3))
    assert mixed["a/Conv"] == mixed["b/Conv"] == mixed["sum/Add"] == LayerForm(half=True)
    assert mixed["y/Conv"] == FLOAT
    assert found.counts((0, 2, 3)) == {"int8": 1, "fp16": 3, "fp32": 1}  # the addition is an operator, too


def test_a_coarser_configuration_has_int8_as_a_level_of_its_own(block):
    config = QuantConfig().add_name_config("[ab]/*", weight_bits=4, granularity="tensor")
    found = made(block, config)
    stem, middle, last = found.groups
    assert [stem.names[level] for level in stem.levels] == ["int8", "fp16", "fp32"]
    assert [middle.names[level] for level in middle.levels] == ["config", "int8", "fp16", "fp32"]
    assert middle.costs[0] == pytest.approx(middle.costs[1] * 6 / 8)
    assert found.forms((0, 0, 0))["a/Conv"].weight.grid.bits == 4
    assert found.forms((0, 1, 0))["a/Conv"].weight.grid.bits == 8
    assert found.forms((0, 1, 0))["a/Conv"].weight.axis == 0
    assert "int8" not in [made(block, config, candidates=("fp16",)).groups[1].names[level] for level in (0, 2)]
    assert last.levels == (0, 2, 3)


@pytest.mark.parametrize("levels", [(0, 0, 0), (0, 1, 2), (2, 3, 0), (3, 2, 2)])
def test_the_settings_say_what_the_forms_do(block, levels):
    """The configuration that is written, read again, gives the very forms that were judged."""
    simulation, statistics, _ = block
    config = QuantConfig().add_name_config("[ab]/*", weight_bits=4).add_layer_config("a/Conv", granularity="tensor")
    config.add_type_config("Conv", weight="mse")
    found = made(block, config)
    written = QuantConfig.parse(found.config(config, levels).dumps())
    settings = written.settings(simulation.layers)
    assert settings.unused == ()
    assert layer_forms(simulation, statistics, "minmax", settings.layers).forms == found.forms(levels)


def test_the_configuration_that_was_given_is_not_changed(block):
    config = QuantConfig().add_layer_config("a/Conv", weight_bits=4)
    before = config.dumps()
    made(block, config).config(config, (2, 2, 2))
    assert config.dumps() == before


def test_layers_that_the_configuration_leaves_in_float_stay_there(block):
    config = QuantConfig().add_layer_config("b/Conv", precision="fp16").add_layer_config("y/Conv", precision="fp32")
    found = made(block, config)
    assert [group.layers for group in found.groups] == [("stem/Conv",), ("a/Conv",)]
    half = LayerForm(half=True)
    assert found.fixed == {"b/Conv": half, "sum/Add": half, "y/Conv": FLOAT}
    assert set(found.left) == {"b/Conv", "sum/Add", "y/Conv"}
    _, _, counts = block
    assert found.fixed_cost == 16 * counts["b/Conv"] + 32 * counts["y/Conv"]
    assert found.total((3, 3)) == found.whole["fp32"] - 16 * counts["b/Conv"]


def test_with_nothing_left_to_switch(block):
    with pytest.raises(
        ModelError, match=r"every layer stays in float, such as .*, for the configuration has it in float"
    ):
        made(block, QuantConfig().skip(names="*"))


def test_a_level_that_is_measured_slower_than_a_higher_one_is_none(block):
    simulation, _, _ = block
    times = {layer.name: {"int8": 1.0, "fp16": 2.0, "fp32": 4.0} for layer in simulation.layers}
    times["y/Conv"] = {"int8": 3.0, "fp16": 2.0, "fp32": 4.0}
    found = made(block, QuantConfig(), costs=times)
    assert [group.levels for group in found.groups] == [(0, 2, 3), (0, 2, 3), (2, 3)]
    assert found.total((0, 0, 2)) == 1 + 3 + 2
    assert found.config(QuantConfig(), (0, 0, 2)).settings(simulation.layers).layers["y/Conv"].precision == "fp16"


def test_what_is_finer_than_int8_is_left_as_it_is():
    config = QuantConfig(QuantConfig().default)
    config.add_layer_config("x", weight_bits=16, activation_bits=4, granularity="block:32")
    (settings,) = config.settings([type("Layer", (), {"name": "x", "type": "MatMul"})()]).layers.values()
    better = at_least_int8(settings)
    assert (better.weight_bits, better.activation_bits, better.granularity) == (16, 8, "block:32")
