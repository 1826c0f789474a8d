"""Encodings of every kind, for the property tests of all formats."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from calibrators.codecs.encodings import Encodings, of_scale
from calibrators.encoding import Encoding
from calibrators.grid import Grid

SMALLEST, LARGEST = 2.0**-126, float(np.float32(3e38))

scales = st.one_of(
    st.floats(float(np.float32(1e-6)), float(np.float32(1e3)), width=32), st.floats(SMALLEST, LARGEST, width=32)
)
names = st.one_of(
    st.sampled_from(
        ["a", "366", "3c010204", "input:0", "a: b", "x: 0.5", "(Unnamed Layer* 4) [Fully Connected]_output"]
    ),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\0"), min_size=1, max_size=20),
)
grids = st.builds(
    lambda bits, signed, symmetric, narrow, power: Grid(bits, signed, symmetric, narrow and signed, power),
    st.integers(2, 16),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
unusable = st.one_of(
    st.sampled_from([0.0, -0.0, float("inf"), float("-inf"), float("nan"), -1.5]),
    st.floats(2.0**-149, 2.0**-127, width=32, allow_subnormal=True),
)


@st.composite
def encodings_of_a_tensor(draw, *, per_tensor=False):
    grid = draw(grids)
    kind = "tensor" if per_tensor else draw(st.sampled_from(["tensor", "channel", "block"]))
    shape = (
        ()
        if kind == "tensor"
        else draw(arrays.array_shapes(min_dims=1, max_dims=1 if kind == "channel" else 3, max_side=3))
    )
    scale = draw(arrays.arrays(np.float32, shape, elements=scales))
    levels = st.just(grid.zero_point) if grid.symmetric else st.integers(grid.minimum, grid.maximum)
    zero_point = draw(arrays.arrays(np.int32, shape, elements=levels))
    axis = None if kind == "tensor" else draw(st.integers(0, max(len(shape) - 1, 0) if kind == "block" else 3))
    return Encoding(scale, zero_point, grid, axis, draw(st.integers(1, 64)) if kind == "block" else None)


@st.composite
def everything(draw):
    """Activations, weights and scales of no use, each of any kind."""
    every = draw(st.lists(names, unique=True, min_size=1, max_size=8))
    first, second = sorted(draw(st.tuples(*[st.integers(0, len(every))] * 2)))
    activations = {name: draw(encodings_of_a_tensor(per_tensor=draw(st.booleans()))) for name in every[:first]}
    weights = {name: draw(encodings_of_a_tensor()) for name in every[first:second]}
    several = [name for name, value in {**activations, **weights}.items() if value.axis == 0]
    unknown = frozenset(draw(st.sets(st.sampled_from(several)))) if several else frozenset()
    return Encodings(activations, weights, {name: draw(unusable) for name in every[second:]}, unknown)


int8 = st.builds(
    Encodings,
    st.dictionaries(names, scales.filter(lambda scale: scale * 127 < 3.4e38).map(of_scale), min_size=1, max_size=8),
)
"""What every format holds: activations in TensorRT's INT8."""

per_tensor = st.builds(
    Encodings, st.dictionaries(names, encodings_of_a_tensor(per_tensor=True), min_size=1, max_size=5)
)
