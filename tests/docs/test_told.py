"""What must be told is told, on the page that is for it."""

import re
from dataclasses import fields

import pytest

from tests.docs.conftest import Walk
from tests.docs.pages import ROOT, Page, names


def test_every_command_is_in_a_page_for_readers() -> None:
    import typer.main

    from trtcal.verbs import app

    told = "\n".join(Page.read(name).text for name in names() if not name.startswith("docs/reference/"))
    for verb in typer.main.get_command(app).commands:  # type: ignore[attr-defined]
        assert f"trtcal {verb}" in told, verb


def test_the_exit_codes_are_all_told() -> None:
    from calibrators.errors import CheckFailedError, TrtcalError
    from trtcal.cli import INTERRUPTED, UNREAD

    codes = {0, CheckFailedError.exit_code, TrtcalError.exit_code, INTERRUPTED, UNREAD}
    table = re.findall(r"^\| (\d+) \|", Page.read("docs/reference/commands.md").text, re.MULTILINE)
    assert {int(number) for number in table} == codes
    assert {str(code) for code in codes} <= set(re.findall(r"\d+", Page.read("docs/getting-started.md").text))


def test_the_presets_are_all_told() -> None:
    from trtcal.commands import options
    from trtcal.data.preprocess import PRESETS

    help_text = options.Preprocess.__metadata__[0].help
    assert set(PRESETS) <= Page.read("docs/preprocessing.md").code
    for name in PRESETS:
        assert name in help_text, name


def test_preprocessing_in_toml_is_one(walked: Walk) -> None:
    from trtcal.data.preprocess import Preprocess

    files = sorted(walked("docs/preprocessing.md").glob("*.toml"))
    assert files
    for path in files:
        Preprocess.load(path)
    assert "letterbox" in Page.read("docs/preprocessing.md").code


def test_the_range_methods_are_all_in_the_table() -> None:
    from calibrators.ranges import METHODS

    lines = Page.read("docs/ranges.md").text.splitlines()
    named = {name for line in lines if line.startswith("|") for name in re.findall(r"`([^`]+)`", line.split("|")[1])}
    assert {*METHODS, "absmax"} <= named


def test_what_other_tools_call_the_range_methods_is_told() -> None:
    from calibrators.methods.names import ALIASES, ELSEWHERE

    aliases = {name for names in ALIASES.values() for name in names}
    assert {*aliases, *ELSEWHERE} <= Page.read("docs/ranges.md").code


def test_every_setting_of_a_configuration_is_told() -> None:
    from trtcal.config.layer_settings import KEYS
    from trtcal.config.rules import Skip

    assert {*KEYS, *(each.name for each in fields(Skip))} <= Page.read("docs/placement.md").code


def test_the_adapters_are_all_in_the_table_with_what_they_read() -> None:
    from trtcal.tasks.proposal import all_adapters

    told = re.findall(r"^\| `(\w+:[\w-]+)` \| (.*) \|$", Page.read("docs/detector.md").text, re.MULTILINE)
    there = {f"{kind}:{name}": adapter.summary for (kind, name), adapter in all_adapters().items()}
    assert dict(told) == there and len(told) == len(there)


def test_every_key_of_an_adapters_file_is_told() -> None:
    from trtcal.tasks.own import file
    from trtcal.tasks.own.source import COMMON

    words = [*COMMON, *(key for keys in file.KEYS.values() for key in keys), *file.KEYS, *file.TABLES]
    assert {*words, *file.FORMATS, *file.UNITS, *file.ACTIVATIONS, "overlap", "names"} <= Page.read(
        "docs/adapter.md"
    ).code


def test_the_formats_of_caches_are_all_told() -> None:
    from trtcal.commands.cache_convert import Format

    assert {each.value for each in Format} <= Page.read("docs/caches.md").code


def test_enough_is_checked_of_what_needs_a_gpu() -> None:
    pages = [Page.read(name) for name in names()]
    assert sum(block.text.count("trtcal ") for page in pages for block in page.of("sh", "gpu")) >= 4
    assert any("EntropyCalibrator2(" in block.text for page in pages for block in page.of("python", "gpu"))


@pytest.mark.parametrize("module", ["trtcal", "trtcal.qat"])
def test_the_reference_has_every_public_name(module: str) -> None:
    text = Page.read("docs/reference/python.md").text
    if module == "trtcal.qat":  # all of __all__, which Sphinx reads
        assert f".. automodule:: {module}\n   :members:" in text
        return
    import trtcal

    documented = re.findall(r"^\.\. auto(?:class|function|exception):: (\w+)$", text, re.MULTILINE)
    assert sorted(documented) == sorted(trtcal.__all__)


def test_the_index_leads_to_every_page() -> None:
    pages = {name[len("docs/") : -len(".md")] for name in names() if name.startswith("docs/")} - {"index"}
    listed = {
        line
        for block in Page.read("docs/index.md").blocks
        if block.info == "{toctree}"
        for line in block.text.splitlines()
        if line and not line.startswith(":")
    }
    assert pages <= listed


def test_the_license_and_the_digits_are_named() -> None:
    readme = Page.read("README.md").text
    assert "Optical Recognition of Handwritten Digits" in readme
    assert "](LICENSE)" in readme and (ROOT / "LICENSE").exists()
