import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibrators.batches import TensorSpec
from calibrators.errors import BuildError
from engines.backends.shapes import DEFAULT_BATCH, Profile, parse_shapes, profiles_for

FLOAT = np.dtype(np.float32)

sizes = st.integers(1, 10**6)
names = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Z")), min_size=1).filter(
    lambda name: name == name.strip(", ") and name.strip()
)


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    ordered = [sorted(draw(st.tuples(sizes, sizes, sizes))) for _ in range(draw(st.integers(1, 5)))]
    low, best, high = (tuple(axis[index] for axis in ordered) for index in range(3))
    return Profile(low, best, high)


@given(name=names, profile=profiles())
def test_what_is_written_is_read(name: str, profile: Profile) -> None:
    assert parse_shapes(f"{name}:{profile}") == {name: profile}


def test_several_inputs_with_commas_and_colons_in_names() -> None:
    read = parse_shapes("input_1:0:1x3x8x8..4x3x8x8..8x3x8x8,a,b:2x10")
    assert read == {
        "input_1:0": Profile((1, 3, 8, 8), (4, 3, 8, 8), (8, 3, 8, 8)),
        "a,b": Profile.fixed((2, 10)),
    }
    assert str(read["a,b"]) == "2x10"
    assert read["input_1:0"].to_dict() == {"min": [1, 3, 8, 8], "opt": [4, 3, 8, 8], "max": [8, 3, 8, 8]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no shapes are given"),
        ("input", "cannot read the shapes 'input'"),
        ("input:", "cannot read the shape ''"),
        (":1x2", "cannot read the shapes ':1x2'"),
        ("input:1xb", "cannot read the shapes 'input:1xb'"),
        ("input:1x2..3x2", "has 2 shapes, not one or three"),
        ("input:4x3..2x3..8x3", "not positive and in order"),
        ("input:0x3", "not positive and in order"),
        ("input:1..1x2..3", "differ in the number of sizes"),
        ("input:1x2.3", "cannot read the shape '1x2.3'"),
        ("input:1,input:2", "the shapes of input are given twice"),
    ],
)
def test_a_wrong_text_is_shown_with_the_right_form(text: str, said: str) -> None:
    with pytest.raises(BuildError, match=said.replace(".", r"\.")) as raised:
        parse_shapes(text)
    assert "\n" not in str(raised.value)
    assert "twice" in said or "1x3x224x224..8x3x224x224..32x3x224x224" in str(raised.value)


def test_a_dynamic_batch_gets_a_profile_and_a_note() -> None:
    chosen, notes = profiles_for([TensorSpec("x", ("N", 3, 4), FLOAT), TensorSpec("fixed", (1, 2), FLOAT)], {})
    assert chosen == {"x": Profile(*((batch, 3, 4) for batch in DEFAULT_BATCH))}
    assert len(notes) == 1
    assert "1x3x4..8x3x4..32x3x4" in notes[0]


def test_given_shapes_are_taken_without_a_note() -> None:
    given_shapes = {"x": Profile.fixed((7, 3)), "fixed": Profile.fixed((1, 2))}
    specs = [TensorSpec("x", (None, 3), FLOAT), TensorSpec("fixed", (1, 2), FLOAT)]
    assert profiles_for(specs, given_shapes) == ({"x": Profile.fixed((7, 3))}, ())


@pytest.mark.parametrize(
    ("spec", "shapes", "said"),
    [
        (
            TensorSpec("x", ("N", 3, "H", None), FLOAT),
            {},
            r"dynamic sizes besides the batch: H \(axis 2\), \? \(axis 3\)",
        ),
        (TensorSpec("x", (10, "N"), FLOAT), {}, r"besides the batch: N \(axis 1\)"),
        (TensorSpec("x", (1, 3), FLOAT), {"x": Profile.fixed((1, 4))}, "do not fit the input x:1x3"),
        (TensorSpec("x", ("N", 3), FLOAT), {"x": Profile.fixed((1, 3, 3))}, "do not fit the input x:Nx3"),
        (TensorSpec("x", ("N", 3), FLOAT), {"x": Profile((1, 2), (1, 3), (1, 4))}, "do not fit"),
        (TensorSpec("x", ("N", 3), FLOAT), {"y": Profile.fixed((1, 3))}, "shapes are given for y.*inputs are x:Nx3"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(spec: TensorSpec, shapes: dict[str, Profile], said: str) -> None:
    with pytest.raises(BuildError, match=said):
        profiles_for([spec], shapes)
