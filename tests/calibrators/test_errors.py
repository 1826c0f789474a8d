"""What other libraries say, in one line."""

import pytest

from calibrators.errors import folded, listed, one_line


@pytest.mark.parametrize("text", ["a b c", " a  b\n\tc\r\n", "a\u00a0b\x0bc"])
def test_a_text_is_one_line(text):
    assert folded(text) == "a b c"


def test_an_exception_is_one_line_of_at_most_so_many_characters():
    error = ValueError("first\n    second ")
    assert one_line(error) == "first second"
    assert one_line(error, 8) == "first se"


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_exception_that_says_nothing_is_named_by_its_type(text):
    assert one_line(KeyboardInterrupt(text)) == "KeyboardInterrupt"


@pytest.mark.parametrize(
    ("names", "said"),
    [([], ""), (["a", "b", "c"], "a, b, c"), (iter("abcd"), "a, b, c, ..."), (["a\nb"], "'a\\nb'")],
)
def test_the_first_names_of_many_are_one_line(names, said):
    assert listed(names) == said
