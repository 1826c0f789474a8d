"""The presets: each is a preprocessing, and each is in the help."""

import re

import pytest

from trtcal.commands import options
from trtcal.data.preprocess import PRESETS, Preprocess
from trtcal.data.presets import STATED


@pytest.mark.parametrize("name", STATED)
def test_a_preset_is_what_its_words_say(name: str) -> None:
    assert Preprocess.load(name) == Preprocess.from_dict(STATED[name]) == PRESETS[name]
    assert Preprocess.load(name).name == name


def test_help_lists_every_preset() -> None:
    listed = re.search(r"a preset \((.*?)\)", options.Preprocess.__metadata__[0].help)
    assert listed is not None
    assert listed[1].split(", ") == list(PRESETS)
