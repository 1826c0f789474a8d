"""Code that was written for aimet-onnx: its words, and what its callbacks ask of a session."""

from dataclasses import dataclass
from enum import Enum

import numpy as np
import pytest

from calibrators.errors import ConfigError, DataError, RangeError, TrtcalError
from tests.trtcal.simulating import two_products
from trtcal.quantsim.simulator import QuantSim

X = np.random.default_rng(0).normal(0, 2, (20, 6)).astype(np.float32)


class QuantScheme(Enum):
    """As AIMET's: two names of one member are told by the first."""

    min_max = 1
    post_training_tf = 1
    post_training_tf_enhanced = 2
    training_range_learning_with_tf_init = 3
    post_training_percentile = 6


def encodings_by(**options):
    with QuantSim(two_products(), **options) as sim:
        sim.compute_encodings([{"x": X}])
        return sim.encodings


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (QuantScheme.post_training_tf, "minmax"),
        ("min_max", "minmax"),
        (QuantScheme.post_training_tf_enhanced, "sqnr"),
        ("tf_enhanced", "sqnr"),
        ("QuantScheme.post_training_tf_enhanced", "sqnr"),
        (QuantScheme.post_training_percentile, "percentile"),
        ("entropy", "entropy"),
    ],
)
def test_a_quant_scheme_is_a_range_method(theirs, ours):
    assert encodings_by(quant_scheme=theirs) == encodings_by(scheme=ours)


@dataclass
class Int:
    """As AIMET's types of numbers."""

    bits: int


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({"default_activation_bw": 4}, {"default_output_bw": 4}),
        ({"activation_type": "int16", "param_type": "int4"}, {"default_output_bw": 16, "default_param_bw": 4}),
        ({"param_type": Int(4)}, {"default_param_bw": 4}),
    ],
)
def test_bits_and_types_by_their_words(theirs, ours):
    assert encodings_by(**theirs) == encodings_by(**ours) != encodings_by()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"param_type": "float16"},
            "param_type is int2 to int16, not 'float16': say it in bits, as default_param_bw=8",
        ),
        ({"activation_type": np.int8}, "activation_type is int2 to int16, not .*int8.*, as default_output_bw=8"),
        ({"activation_type": "int99"}, "activation_bits must be a whole number from 2 to 16, not 99"),
        (
            {"default_output_bw": 8, "activation_type": "int8"},
            "default_output_bw and activation_type mean the same: give one",
        ),
    ],
)
def test_types_that_are_none(options, message):
    with pytest.raises(ConfigError, match=message):
        QuantSim(two_products(), **options)


def test_quant_schemes_that_are_none():
    with pytest.raises(RangeError, match="learned-range is a quantizer to train a PyTorch model with"):
        QuantSim(two_products(), quant_scheme=QuantScheme.training_range_learning_with_tf_init)
    with pytest.raises(RangeError, match="a scheme is a text, not of type int"):
        QuantSim(two_products(), quant_scheme=3)
    with pytest.raises(RangeError, match=r"not of type dict .an example of the inputs is given as dummy_input=."):
        QuantSim(two_products(), {"x": X})
    with pytest.raises(ConfigError, match="scheme is 'sqnr', and quant_scheme, which means the same, 'tf': give one"):
        QuantSim(two_products(), "sqnr", quant_scheme="tf")


def test_a_callback_runs_its_session_as_it_does_in_aimet():
    """Its session is called as ONNX Runtime's: ``session.run(None, feed)``."""
    seen = []

    def forward(session, batches):
        (given,) = session.get_inputs()
        assert (given.name, given.type, given.shape[1:]) == ("x", "tensor(float)", [6])
        assert [each.name for each in session.get_outputs()] == [each.name for each in session.outputs]
        for batch in batches:
            seen.append((session.run(None, {given.name: batch}), session.run({given.name: batch})))

    expected = encodings_by(scheme="mse")
    for style in ("by word", "in its place", "by position"):
        with QuantSim(two_products(), "mse") as sim:
            batches = np.split(X, 4)
            if style == "by word":
                sim.compute_encodings(forward_pass_callback=forward, forward_pass_callback_args=batches)
            elif style == "by position":
                sim.compute_encodings(forward, batches)
            else:
                sim.compute_encodings(forward, forward_pass_callback_args=batches)
            assert sim.encodings == expected
    for listed, named in seen:
        assert [each.tobytes() for each in listed] == [each.tobytes() for each in named.values()]


def test_a_callback_without_arguments_gets_the_session_alone():
    with QuantSim(two_products(), "mse") as sim:
        sim.compute_encodings(forward_pass_callback=lambda session: session.run(["y"], {"x": X}, None))
        assert sim.encodings == encodings_by(scheme="mse")
        sim.compute_encodings(
            forward_pass_callback=lambda session, args: session.run({"x": args or X}),
            **{"forward_pass_callback_args": None},
        )
        assert sim.encodings == encodings_by(scheme="mse")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "encodings are computed from data, or by a forward_pass_callback in their place: give one"),
        ({"data": [{"x": X}], "forward_pass_callback": print}, "in their place: give one"),
        ({"forward_pass_callback": [{"x": X}]}, "forward_pass_callback is a function .*, not of type list"),
        ({"data": [{"x": X}], "forward_pass_callback_args": 3}, "give data alone, or a function"),
        ({"forward_pass_callback": lambda session: session.run(["z"], {"x": X})}, "no output 'z': its outputs are y"),
        ({"forward_pass_callback": lambda session: None}, "the callback ran nothing"),
    ],
)
def test_what_is_computed_from_nothing_or_from_two(options, message):
    with QuantSim(two_products()) as sim, pytest.raises(DataError, match=message):
        sim.compute_encodings(**options)


@pytest.mark.parametrize("example", [{"x": X[:1]}, X[:2], [X[:3]], (X.astype(np.float64),), {"x": X[:1].tolist()}])
def test_an_example_that_fits_is_run(example):
    assert encodings_by(dummy_input=example) == encodings_by()


@pytest.mark.parametrize(
    ("example", "message"),
    [
        ({"picture": X}, "picture.* inputs are .*x"),
        ({"x": X[:, :5]}, "x"),
        (X[0], "x"),
        ([X, X], "dummy_input holds 2 arrays, and the inputs are x: give as many"),
        ("a text", "x"),
    ],
)
def test_an_example_that_does_not_fit_is_refused(example, message):
    with pytest.raises(TrtcalError, match=message) as raised:
        QuantSim(two_products(), dummy_input=example)
    assert "\n" not in str(raised.value)
