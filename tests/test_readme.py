"""What the README says is run: its commands, its Python, its TOML, its links; and the examples.

Blocks marked `gpu` are only held against the commands, options and functions that there are.
"""

import ast
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("tensorrt_rtx", reason="the README's tour builds engines: pip install trtcal[rtx]")
pytest.importorskip("sklearn", reason="the README's tour begins with the demo: pip install trtcal[demo]")

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def run(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def tour(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every command of the README has been run, in order."""
    folder = tmp_path_factory.mktemp("tour")
    (configuration,) = blocks("toml layers.toml")
    (folder / "layers.toml").write_text(configuration, encoding="utf-8")
    commands = [line for block in blocks("sh") for line in block.splitlines() if line]
    assert len(commands) >= 10
    for command in commands:
        program, *arguments = command.split()
        assert program == "trtcal", command
        result = run(folder, "-c", "from trtcal.cli import main; main()", *arguments)
        assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return folder


def test_the_tour_leaves_what_it_says(tour: Path) -> None:
    for name in (
        "digits.cache",
        "digits.cache.json",
        "digits.int8.onnx",
        "digits.engine",
        "digits.fp16.engine",
        "minmax.cache",
        "best.cache",
        "auto.cache",
        "mse.cache",
        "percentile.cache",
        "digits.mixed.onnx",
    ):
        assert (tour / name).stat().st_size > 100, name


def test_a_cache_goes_to_qdq_and_back(tour: Path) -> None:
    from calibrators.cache.text import CalibrationCache

    again, minmax = (CalibrationCache.load(tour / name) for name in ("again.cache", "minmax.cache"))
    assert minmax.header == "TRT-8601-MinMaxCalibration"
    assert dict(minmax) == dict(again)
    assert (tour / "converted.onnx").read_bytes() == (tour / "digits.int8.onnx").read_bytes()


def test_the_python_runs_and_gives_the_same_cache(tour: Path) -> None:
    from_commands = (tour / "digits.cache").read_bytes()
    (block,) = blocks("python")
    result = run(tour, "-c", block)
    assert result.returncode == 0, result.stderr
    assert (tour / "digits.cache").read_bytes() == from_commands


def test_a_configuration_in_python_does_what_it_says(tour: Path) -> None:
    import json

    (block,) = blocks("python config")
    result = run(tour, "-c", block)
    assert result.returncode == 0, result.stderr
    assert "[[name]]" in (tour / "mine.toml").read_text(encoding="utf-8")
    configured = json.loads((tour / "digits.mine.engine.json").read_bytes())["configured"]
    assert configured["stem.conv"] == "float"
    assert configured["classifier"] == "fp32"
    assert configured["block1.widen.conv"] == "int8"


def test_a_simulation_does_what_it_says(tour: Path) -> None:
    (block,) = blocks("python quantsim")
    result = run(tour, "-c", block)
    assert result.returncode == 0, result.stderr
    top1, sqnr = map(float, result.stdout.split())
    assert 95 < top1 <= 100 and sqnr > 20
    names = sorted(path.name for path in (tour / "simulated").iterdir())
    assert names == ["digits.encodings", "digits.onnx", "digits.qdq.onnx", "digits.qdq.onnx.json"]


def test_every_setting_of_a_configuration_is_told() -> None:
    from dataclasses import fields

    from trtcal.config.layer_settings import KEYS
    from trtcal.config.rules import Skip

    (block,) = blocks("toml layers.toml")
    for key in (*KEYS, *(each.name for each in fields(Skip))):
        assert re.search(rf"\b{key}\b", block), key


@pytest.mark.parametrize(
    "example",
    sorted(
        path.name
        for path in (ROOT / "examples").glob("[0-9]*.py")
        if f"examples/{path.name} MODEL.onnx IMAGES PREPROCESS"
        in path.read_text(encoding="utf-8")  # others: tests/tools
    ),
)
def test_the_examples_run(tour: Path, example: str) -> None:
    result = run(tour, str(ROOT / "examples" / example), "demo/digits.onnx", "demo/calibration", "unit")
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()


def test_commands_that_need_a_gpu_exist_with_these_options() -> None:
    import typer.main

    from trtcal.verbs import app

    group = typer.main.get_command(app)
    lines = [line for block in blocks("sh gpu") for line in block.splitlines() if line]
    assert len(lines) >= 4
    for line in lines:
        program, verb, *arguments = line.split()
        assert program == "trtcal", line
        group.commands[verb].make_context(verb, arguments)  # type: ignore[attr-defined]


def test_python_that_needs_a_gpu_calls_what_exists() -> None:
    import trtcal

    (block,) = blocks("python gpu")
    calls = [node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Call)]
    assert len(calls) >= 3
    for call in calls:
        assert isinstance(call.func, ast.Attribute)
        signature = inspect.signature(getattr(trtcal, call.func.attr))
        signature.bind(*call.args, **{str(keyword.arg): keyword.value for keyword in call.keywords})


def test_the_exit_codes_are_all_told() -> None:
    from calibrators.errors import CheckFailedError, TrtcalError
    from trtcal.cli import INTERRUPTED, UNREAD

    (said,) = re.findall(r"Exit codes: (.*?)\. An error", README, re.DOTALL)
    codes = {0, CheckFailedError.exit_code, TrtcalError.exit_code, INTERRUPTED, UNREAD}
    assert {int(number) for number in re.findall(r"\b\d+\b", said)} == codes


def test_the_preprocessing_is_one(tmp_path: Path) -> None:
    from trtcal.data.preprocess import Preprocess

    (block,) = blocks("toml")
    path = tmp_path / "preprocess.toml"
    path.write_text(block, encoding="utf-8")
    assert "letterbox" in str(Preprocess.load(path))


def test_the_presets_are_all_named() -> None:
    from trtcal.commands import options
    from trtcal.data.preprocess import PRESETS

    help_text = options.Preprocess.__metadata__[0].help
    for name in PRESETS:
        assert f"`{name}`" in README, name
        assert name in help_text, name


def test_the_range_methods_are_all_in_the_table() -> None:
    from calibrators.ranges import ALIASES, METHODS

    table = [line.split("|")[1] for line in README.splitlines() if line.startswith("| `")]
    named = {name for cell in table for name in re.findall(r"`([^`]+)`", cell)}
    assert {*METHODS, *ALIASES} <= named


def test_the_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_every_verb_is_mentioned() -> None:
    import typer.main

    from trtcal.verbs import app

    for verb in typer.main.get_command(app).commands:  # type: ignore[attr-defined]
        assert f"trtcal {verb}" in README, verb
