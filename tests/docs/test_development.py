"""The page for those who work on trtcal names what exists, every room in its order, and walks that can be walked."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from calibrators.codecs.encodings import Encodings, of_scale
from calibrators.grid import Grid
from calibrators.statistics.tensor import TensorStatistics
from trtcal.config.toml_file import read_toml

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "development.md").read_text(encoding="utf-8")
PROSE = re.sub(r"^```.*?^```", "", PAGE, flags=re.MULTILINE | re.DOTALL)
PACKAGES = ("calibrators", "engines", "trtcal")

NEW = set(re.findall(r"\bnew file `([^`]+)`", PROSE))
PATHS = sorted(set(re.findall(r"`((?:[\w.-]+/)+(?:[\w.-]+\.\w+)?)`", PROSE)) - NEW)


def written(name: str) -> SimpleNamespace:
    """What the page's Python block with a function of that name defines."""
    (block,) = (block for block in re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S) if f"def {name}(" in block)
    found: dict[str, object] = {}
    exec(block, found)
    return SimpleNamespace(**found)


def test_there_are_paths_to_check() -> None:
    assert len(PATHS) > 50
    assert {Path(path).parts[0] for path in PATHS} >= {*PACKAGES, "tests"}


@pytest.mark.parametrize("path", PATHS)
def test_what_is_named_exists(path: str) -> None:
    assert (ROOT / path).is_dir() if path.endswith("/") else (ROOT / path).is_file()


def test_what_is_to_be_made_is_not_there_yet() -> None:
    assert len(NEW) == 5
    for path in NEW:
        assert (ROOT / path).parent.is_dir()
        assert not (ROOT / path).exists()


@pytest.mark.parametrize("package", PACKAGES)
def test_every_room_is_in_a_table_from_the_ground_up(package: str) -> None:
    there = {path.parent.name for path in (ROOT / package).glob("*/__init__.py")}
    told = re.findall(rf"^\| `{package}/(\w+)/` \|", PAGE, re.MULTILINE)
    contracts = read_toml(ROOT / "pyproject.toml")["tool"]["importlinter"]["contracts"]
    (layers,) = (each["layers"] for each in contracts if each.get("containers") == [package])
    order = [room for layer in reversed(layers) for room in layer.split(" | ")]
    assert set(told) == there
    assert told == [room for room in order if room in there]


def test_the_walks_are_there() -> None:
    walks = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    walks = [walk for walk in walks if walk.startswith("Walk ")]
    assert [re.match(r"Walk (\d): a new ([\w ]+)", walk).groups() for walk in walks] == [  # type: ignore[union-attr]
        ("1", "range method"),
        ("2", "format of scales or caches"),
        ("3", "TensorRT"),
        ("4", "operator to quantize"),
        ("5", "preprocessing preset"),
        ("6", "adapter"),
    ]
    for walk in walks:
        assert re.search(r"^\d\. Tests: |python -m tests\.contract", walk, re.MULTILINE), walk
        assert re.search(r"^\d\. Docs: .*\]\(\w", walk, re.MULTILINE), walk


def test_the_method_of_the_walk_is_one() -> None:
    find = written("two_sigma_range").two_sigma_range
    values = np.random.default_rng(0).standard_normal(10**5).astype(np.float32)
    statistics = TensorStatistics.of(values)
    assert find(statistics, Grid()).amax == pytest.approx(2.0, rel=0.01)
    assert find(TensorStatistics.of(np.abs(values)), Grid(symmetric=False)).minimum == 0.0
    assert find(TensorStatistics.of([0.0]), Grid()).amax == 0.0


def test_the_format_of_the_walk_is_one() -> None:
    form = written("recognises")
    encodings = Encodings({"image": of_scale(0.5), "a,b": of_scale(0.25)})
    data, losses = form.dump(encodings)
    assert (data, losses) == (b"image,0.5\na,b,0.25\n", ())
    assert form.recognises(data)
    assert form.load(data, source="there") == encodings


def test_the_adapter_of_the_walk_is_one() -> None:
    adapter = written("decode").ADAPTER
    rows = np.array([[0, 2, 0.5, 0.1, 0.2, 0.3, 0.4], [0, 1, 0.9, 0, 0, 1, 1], [-1, 0, 0, 0, 0, 0, 0]])
    (found,) = adapter.decode({"detection_out": rows[None, None]}, (100, 200))
    np.testing.assert_allclose(found.boxes, [[0, 0, 200, 100], [20, 20, 60, 40]])
    assert (found.scores.tolist(), found.classes.tolist()) == ([0.9, 0.5], [0, 1])
    assert adapter.misfit({"rows": (1, 100, 7)}, (100, 200)).startswith("one output of (N, 1, rows, 7), not rows")


def test_the_lines_of_the_walks_fit_their_tables() -> None:
    from engines.graph.operators import Weighted
    from trtcal.data.preprocess import Preprocess

    (entry,) = re.findall(r'"DeformConv": (Weighted\(.*?\)),`', PAGE)
    assert eval(entry, {"Weighted": Weighted}) == Weighted(axis=0, convolves=True)
    (block,) = re.findall(r'^```text\n(\s+"yolo": .*?)^```', PAGE, re.M | re.S)
    (stated,) = eval("{" + block + "}").values()
    assert str(Preprocess.from_dict(stated)) == "letterbox 640x640 bilinear fill 114, RGB, pixel / 255"
