"""The pictures of the documentation are what their script draws, and can be read."""

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "docs" / "pictures"
NAMES = ("residual.svg", "threshold.svg")
SVG = "{http://www.w3.org/2000/svg}"
CURVES = ("clipping", "rounding", "sum", "kl")
SMALLEST_TEXT = 9.0


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the script has drawn."""
    pytest.importorskip("matplotlib", reason="the pictures are drawn with it: pip install trtcal[dev]")
    pytest.importorskip("sklearn", reason="the demo's images come with it: pip install trtcal[demo]")
    folder = tmp_path_factory.mktemp("pictures")
    subprocess.run([sys.executable, str(PICTURES / "draw.py"), str(folder)], cwd=ROOT, check=True, timeout=300)
    return folder


def texts(picture: Path) -> list[str]:
    return [" ".join("".join(each.itertext()).split()) for each in ElementTree.parse(picture).iter(f"{SVG}text")]


def curve(picture: Path, name: str) -> np.ndarray:
    """The points of a line, which matplotlib thins out where it is nearly straight."""
    group = next(each for each in ElementTree.parse(picture).iter(f"{SVG}g") if each.get("id") == name)
    path = group.find(f"{SVG}path")
    assert path is not None
    return np.array(re.findall(r"-?\d+(?:\.\d+)?", path.get("d", "")), float).reshape(-1, 2)


def test_every_picture_is_one_of_the_scripts(drawn: Path) -> None:
    assert sorted(path.name for path in drawn.iterdir()) == list(NAMES)
    assert sorted(path.name for path in PICTURES.glob("*.svg")) == list(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_words_are_those_that_the_script_writes(drawn: Path, name: str) -> None:
    masked = [[re.sub(r"[\d.]+", "0", text) for text in texts(folder / name)] for folder in (PICTURES, drawn)]
    assert masked[0] == masked[1]


def test_the_ranges_are_those_that_trtcal_finds(drawn: Path) -> None:
    committed, found = (
        dict(text.split() for text in texts(folder / "threshold.svg") if re.fullmatch(r"\w+ \d\.\d\d", text))
        for folder in (PICTURES, drawn)
    )
    assert set(committed) == {"minmax", "mse", "percentile", "entropy"}
    for method in ("minmax", "mse", "percentile"):
        assert float(found[method]) == pytest.approx(float(committed[method]), abs=0.05)
    # The divergence has two minima of about the same depth: which is the lower is a matter of the last bits.
    assert float(found["entropy"]) <= float(found["mse"])


@pytest.mark.parametrize("name", CURVES)
def test_the_curves_are_those_of_the_statistics(drawn: Path, name: str) -> None:
    committed, found = (curve(folder / "threshold.svg", name) for folder in (PICTURES, drawn))
    places = np.linspace(max(committed[0, 0], found[0, 0]), min(committed[-1, 0], found[-1, 0]), 50)
    heights = [np.interp(places, points[:, 0], points[:, 1]) for points in (committed, found)]
    assert np.median(np.abs(heights[0] - heights[1])) < 1.0  # of about 180 points


@pytest.mark.parametrize(("loss", "method"), [("sum", "mse"), ("kl", "entropy")])
def test_the_lowest_point_of_a_curve_is_where_the_range_ends(loss: str, method: str) -> None:
    points, line = (curve(PICTURES / "threshold.svg", name) for name in (loss, method))
    lowest = points[np.argmax(points[:, 1]), 0]  # SVG counts from the top
    assert lowest == pytest.approx(line[0, 0], abs=4)  # of about 590 points


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_says_nothing_of_when_and_where_it_was_drawn(name: str) -> None:
    text = (PICTURES / name).read_text(encoding="utf-8")
    assert "<dc:date>" not in text
    assert str(ROOT) not in text


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_can_be_read_on_light_and_dark_pages(name: str) -> None:
    text = (PICTURES / name).read_text(encoding="utf-8")
    background = re.search(r'<g id="patch_1">\s*<path d="([^"]*)"\s+style="fill: #ffffff"', text)
    assert background is not None, "it has no white card behind it"
    sizes = [float(size) for size in re.findall(r"font(?:-size)?:\s*(?:\w+ )*([\d.]+)px", text)]
    assert sizes
    assert min(sizes) >= SMALLEST_TEXT or name == "threshold.svg"  # whose exponents are smaller


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_stands_on_a_page_with_words_in_its_place(name: str) -> None:
    pages = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md"))
    (words,) = re.findall(rf"!\[([^]]+)\]\(pictures/{re.escape(name)}\)", pages)
    assert len(words) > 80
