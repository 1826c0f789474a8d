"""The names of formats: those that there are, and each in the help."""

from calibrators.codecs.formats import FORMATS
from calibrators.codecs.names import FormatName, listed


def test_every_format_has_a_name() -> None:
    assert {name.value for name in FormatName} - {FormatName.QDQ, FormatName.AIMET} == set(FORMATS)
    assert [name.value for name in FormatName if name.value in FORMATS] == list(FORMATS)


def test_a_name_is_its_text() -> None:
    assert FormatName("ppq") is FormatName.PPQ == "ppq"
    assert all(isinstance(name, str) and str.__str__(name) == name.value for name in FormatName)


def test_help_lists_all() -> None:
    assert all(name.value in listed() for name in FormatName)


def test_a_format_is_told_by_its_bytes_or_as_json() -> None:
    for name, each in FORMATS.items():
        assert (each.of_bytes is not None) + (each.of_json is not None) == (not name.startswith("aimet")), name
