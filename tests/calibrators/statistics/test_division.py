"""Groups of tensors that share a scale, divided by their ranges."""

from hypothesis import given
from hypothesis import strategies as st

from calibrators.statistics.division import divided
from calibrators.statistics.file import ScaleGroup

SPLIT = ScaleGroup(("x", "loud", "quiet"), ("x",), (("loud", ("x",)), ("quiet", ("x",))))

JOINED = ScaleGroup(
    ("x", "loud", "quiet", "moved", "other", "both", "all"),
    ("x", "other"),
    (
        ("loud", ("x",)),
        ("quiet", ("x",)),
        ("moved", ("quiet",)),
        ("both", ("moved", "other")),
        ("all", ("loud", "both")),
    ),
)


def parts(group, **amax):
    """Members of each part, and those that decide."""
    return {part.members: part.sources for part in divided(group, amax)}


def test_ranges_that_are_alike_stay_together():
    assert parts(SPLIT, x=8.0, loud=8.0, quiet=2.0) == {SPLIT.members: ("x",)}


def test_a_small_part_is_for_itself():
    assert parts(SPLIT, x=8.0, loud=8.0, quiet=1.9) == {("x", "loud"): ("x",), ("quiet",): ("quiet",)}


def test_a_part_of_zeros_or_of_which_nothing_is_known_stays():
    assert parts(SPLIT, x=8.0, loud=8.0, quiet=0.0) == {SPLIT.members: ("x",)}
    assert parts(SPLIT, x=8.0) == {SPLIT.members: ("x",)}


def test_a_part_reaches_no_further_than_the_tensor():
    assert parts(SPLIT, x=8.0, loud=80.0, quiet=8.0) == {SPLIT.members: ("x",)}


def test_a_group_without_origins_stays_whole():
    group = ScaleGroup(("x", "y"), ("x",))
    assert divided(group, {"x": 8.0, "y": 0.1}) == (group,)


def test_small_parts_that_are_joined_share():
    found = parts(JOINED, x=100.0, loud=100.0, quiet=1.0, moved=1.0, other=2.0)
    assert found == {("x", "loud", "all"): ("x",), ("quiet", "moved", "other", "both"): ("quiet", "other")}


def test_small_parts_are_divided_in_turn():
    found = parts(JOINED, x=100.0, loud=100.0, quiet=1.0, moved=1.0, other=9.0)
    assert found == {
        ("x", "loud", "all"): ("x",),
        ("other", "both"): ("other",),
        ("quiet", "moved"): ("quiet",),
    }


def test_a_concatenation_with_an_unknown_operand_is_told_by_itself():
    found = parts(JOINED, x=1.0, loud=1.0, quiet=1.0, moved=1.0, both=50.0)
    assert found == {
        ("other", "both", "all"): ("other", "both"),
        ("x", "loud", "quiet", "moved"): ("x",),
    }


RANGES = st.fixed_dictionaries(dict.fromkeys(JOINED.members, st.floats(1e-6, 1e6)))


@given(RANGES)
def test_parts_make_up_the_group_and_dividing_them_again_changes_nothing(amax):
    first = divided(JOINED, amax)
    assert sorted(name for part in first for name in part.members) == sorted(JOINED.members)
    shared = {name: max(amax[each] for each in part.sources) for part in first for name in part.members}
    again = divided(JOINED, shared)
    assert [part.members for part in again] == [part.members for part in first]
    for part in again:
        assert len({shared[name] for name in part.members}) == 1
