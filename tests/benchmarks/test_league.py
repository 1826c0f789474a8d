"""The league, on the model that comes with trtcal and without one; its tables from figures made up."""

import json
import sys
from pathlib import Path

import onnx
import pytest
from click.testing import Result
from typer.testing import CliRunner

from benchmarks.league.__main__ import app, chosen
from benchmarks.league.networks import BUNDLED, REAL, Counts
from benchmarks.league.peers import PEERS, Failed, Peer, installed, last_line, quantized
from benchmarks.league.season import DEFAULT, Files, Season, in_float
from benchmarks.league.standing import tables

ROOT = Path(__file__).resolve().parents[2]
PYTHON = Path(sys.executable)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def test_default_and_methods_on_the_bundled_digits(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    figures = tmp_path / "league.json"
    counts = ["--images", "16", "--test-images", "8"]
    done = run("--models", "digits", "--methods", "mse,emd", "--no-peers", *counts, "--json", str(figures))
    assert done.exit_code == 0, done.output
    found = json.loads(figures.read_text())["digits"]
    assert list(found["sqnr_db"]) == [DEFAULT, "mse", "emd"]
    assert found["failed"] == {}
    assert found["sqnr_db"]["mse"] > found["sqnr_db"]["emd"] + 5


def test_an_unknown_network_is_named() -> None:
    assert "alexnet" in str(run("--models", "digits,alexnet").exception)


def test_without_data_the_real_networks_are_left_out_aloud(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not chosen(["lenet"], tmp_path)
    assert "left out: lenet" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["encoder-60", "mobilenetv2"])
def test_no_sample_is_calibrated_on_and_judged_by(name: str) -> None:
    network = BUNDLED[name](ROOT, Counts(3, 2))
    assert (len(network.calibration), len(network.test)) == (3, 2)
    assert not any((one == other).all() for one in network.calibration for other in network.test)


def test_names_are_unique() -> None:
    assert not set(BUNDLED) & set(REAL)


def test_onnxruntime_quantizes_in_a_process_of_its_own(tmp_path: Path) -> None:
    files = Files.written(BUNDLED["encoder-60"](ROOT, Counts(4, 1)), tmp_path)
    output = tmp_path / "peer.onnx"
    peer = Peer("onnxruntime", "MinMax")
    told = quantized(PYTHON, peer, files.model, files.calibration, output, seconds=100)
    assert not isinstance(told, Failed), told.reason
    assert told["version"] == installed(PYTHON, peer)
    assert in_float(onnx.load(files.model)) == 17
    assert in_float(onnx.load(output)) == 0


def test_a_peer_that_fails_says_why(tmp_path: Path) -> None:
    told = quantized(PYTHON, PEERS[0], tmp_path / "none.onnx", tmp_path / "none.npz", tmp_path / "out.onnx", seconds=60)
    assert isinstance(told, Failed)
    assert "none.npz" in told.reason


def test_a_peer_that_is_not_there_has_no_version() -> None:
    assert installed(PYTHON, Peer("a-distribution-that-nobody-wrote", "max")) is None


def test_the_last_line_is_what_failed() -> None:
    assert last_line("Traceback\n  File x\nValueError: no\n\n") == "ValueError: no"
    assert last_line("") == ""


def test_tables_tell_gaps_and_bars() -> None:
    first = Season(sqnr={DEFAULT: 30.0, "mse": 30.5, "emd": 20.0, PEERS[0].name: 30.2})
    second = Season(sqnr={DEFAULT: 30.0, "mse": 29.0, PEERS[0].name: 30.4}, left_float={PEERS[0].name: 2})
    figures, gaps, bars, _ = tables({"a": first, "b": second})
    assert [PEERS[0].name, "30.2", "30.4 (2)"] in figures.rows
    assert [DEFAULT, "a", "-0.25", "0.5", "2"] in gaps.rows
    assert ["emd", "a", "10.50", "10.5", "1"] in gaps.rows
    assert [row[2] for row in bars.rows] == ["yes", "no"]
