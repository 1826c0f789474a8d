"""Tables and remarks from figures."""

from dataclasses import replace

import pytest

from benchmarks.figures import Figures, ModelFigures, Rounds, Search, Settings
from benchmarks.report import Table, remarks, tables

ROUNDS = Rounds([8.0, 8.0, 9.0], [5.0, 5.0, 5.0], [7.0, 7.0, 8.0], [1.0, 1.0, 1.0])
MODEL = ModelFigures(
    nodes=122,
    tensors=123,
    rounds={"fetch": Rounds([7.0] * 3, [5.0] * 3), "entropy": ROUNDS, "quantizable": ROUNDS, "files": ROUNDS},
    memory={"inference": {32: 300.0, 128: 300.0}, "entropy": {32: 1000.0, 128: 1100.0}},
    search={"entropy": Search(123, 2.5, 4.0), "minmax": Search(123, 0.001, 0.002)},
    all_searches=1.5,
    peer_rounds={"Entropy": Rounds([14.0] * 3, [1.0] * 3, [13.0] * 3, [1.0] * 3)},
    peer_memory={"Entropy": {32: 4000.0}},
    peer_search={128: Search(8, 0.4, 0.5), 2048: Search(8, 440.0, 450.0)},
)
FIGURES = Figures(
    machine={"processor": "A", "cores": "2"},
    load=0.1,
    settings=Settings(models=("resnet50",), images=128),
    help_seconds=[0.1, 0.1, 0.2],
    start_up={"compiling": 4.0, "loading": 0.5},
    models={"resnet50": MODEL},
)


@pytest.fixture
def found() -> dict[str, Table]:
    return {table.title.split()[0].rstrip(","): table for table in tables(FIGURES)}


def test_every_row_fills_its_table(found: dict[str, Table]) -> None:
    assert set(found) == {"Machine", "Wall", "Peak", "Threshold", "Start", "Targets"}
    for table in found.values():
        assert table.rows
        assert {len(row) for row in table.rows} == {len(table.columns)}


def test_wall_times_stand_beside_the_floor_and_the_peers(found: dict[str, Table]) -> None:
    rows = {row[1]: list(row[2:]) for row in found["Wall"].rows}
    assert rows["plain FP32 inference: the floor"] == ["128", "5.00", "1.00", "1.00-1.00", "", ""]
    assert rows["every activation fetched, nothing counted"] == ["128", "7.00", "1.40", "1.40-1.40", "", ""]
    assert rows["trtcal entropy"] == ["128", "8.00", "1.60", "1.60-1.80", "7.00", "1.00"]
    assert rows["onnxruntime Entropy"] == ["32", "14.00", "14.00", "14.00-14.00", "13.00", "1.00"]


def test_memory_has_a_column_for_each_number_of_images(found: dict[str, Table]) -> None:
    assert found["Peak"].columns == ("model", "what", "32 images", "128 images")
    assert ["resnet50", "onnxruntime Entropy", "4000", ""] in found["Peak"].rows


def test_a_missed_target_is_told(found: dict[str, Table]) -> None:
    reached = {row[0]: row[3] for row in found["Targets"].rows}
    assert reached == {
        "resnet50: calibration of every activation over the floor": "yes",
        "resnet50: calibration of quantizable activations over the floor": "NO",
        "resnet50: peak memory, all images over a quarter of them": "NO",
        "resnet50: peak memory, MB": "yes",
        "resnet50: slowest method's search, ms per tensor": "yes",
        "resnet50: all methods for 200 tensors, seconds": "yes",
        "trtcal --help, seconds": "yes",
    }


def test_markdown_aligns_numbers_to_the_right() -> None:
    table = Table("Times", ("what", "seconds"), [["a", "1.0"]], words=1)
    assert table.markdown() == "**Times**\n\n| what | seconds |\n| --- | ---: |\n| a | 1.0 |"


def test_remarks_say_what_to_doubt() -> None:
    (peers,) = remarks(FIGURES)
    assert "32 images, not 128" in peers
    quiet = replace(FIGURES, settings=Settings(peers_images=0))
    assert remarks(quiet) == []
    busy = replace(quiet, load=1.2, settings=Settings(peers_images=0, rounds=1))
    assert [line.split(" (")[0].split(" to ")[0] for line in remarks(busy)] == [
        "the machine was busy",
        "too few rounds",
    ]


def test_a_floor_that_varies_gives_the_disturbance_away() -> None:
    disturbed = replace(MODEL, rounds={**MODEL.rounds, "fetch": Rounds([7.0, 9.0, 8.0], [5.0, 9.0, 6.0])})
    (line,) = remarks(replace(FIGURES, settings=Settings(peers_images=0), models={"resnet50": disturbed}))
    assert "resnet50: the floor took up to 1.8 times its fastest" in line
