"""Settings from TOML files: what cannot be read, and what is near a word that means nothing."""

import pytest

from calibrators.errors import ConfigError, DataError
from trtcal.config.toml_file import check_keys, nearest, parse_toml, read_toml


def test_what_a_file_holds(tmp_path):
    (tmp_path / "a.toml").write_text("x = 1\n[y]\nz = ['ä']\n", encoding="utf-8")
    assert read_toml(tmp_path / "a.toml") == {"x": 1, "y": {"z": ["ä"]}}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"\xff", "is not UTF-8 text"),
        (b"x = ", "is not TOML: "),
        (b"x = 1\nx = 2\n", "is not TOML: "),
    ],
)
@pytest.mark.parametrize("error", [DataError, ConfigError])
def test_what_cannot_be_read(tmp_path, content, why, error):
    path = tmp_path / "a.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error, match=f"^{why}"):
        read_toml(path, error=error)


def test_a_byte_order_mark_is_passed_over(tmp_path):
    (tmp_path / "a.toml").write_bytes(b"\xef\xbb\xbfx = 1\r\n")
    assert read_toml(tmp_path / "a.toml") == {"x": 1}


def test_a_number_of_more_digits_than_python_reads():
    with pytest.raises(DataError, match="is not TOML: "):
        parse_toml("x = " + "9" * 10_000)


def test_brackets_without_end():
    with pytest.raises(DataError, match="is not TOML: "):
        parse_toml("x = " + "[" * 100_000)


def test_unknown_keys_are_told_with_the_nearest():
    check_keys({"resize": 1}, ["resize", "crop"])
    with pytest.raises(DataError, match=r"^unknown key 'resise' \(did you mean 'resize'\?\); valid: resize, crop$"):
        check_keys({"resise": 1}, ["resize", "crop"])
    with pytest.raises(ConfigError, match=r"^unknown key 'in.zzz'; valid: resize, crop$"):
        check_keys({"zzz": 1}, ["resize", "crop"], within="in.", error=ConfigError)


def test_how_near_is_near_enough():
    assert nearest("cropp", ["crop"]) == " (did you mean 'crop'?)"
    assert nearest("c", ["crop"]) == ""
    assert nearest("c", ["crop"], closeness=0.4) == " (did you mean 'crop'?)"
