"""ONNX Runtime's own calibrators, on two images."""

from pathlib import Path

import pytest

from benchmarks.peers import PEERS, peer_peak, peer_searches, peer_timings, whole_batches
from benchmarks.processes import in_fresh_process


@pytest.mark.parametrize("peer", PEERS)
def test_wall_time_is_split_and_stands_beside_a_floor(
    mobilenet_v2_file: Path, peer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rounds = peer_timings(mobilenet_v2_file, peer, images=2, rounds=2)
    assert len(rounds.seconds) == len(rounds.floor) == len(rounds.collect) == len(rounds.search) == 2
    assert rounds.ratio > 0
    assert capsys.readouterr().out == ""  # what ONNX Runtime prints would stand among the tables


@pytest.mark.slow
def test_entropy_keeps_every_activation_in_memory(mobilenet_v2_file: Path) -> None:
    few, more = (in_fresh_process(peer_peak, mobilenet_v2_file, "Entropy", images=count) for count in (8, 16))
    assert more - few > 300  # MB; the activations of an image are 52 MB


@pytest.mark.slow
def test_its_search_is_timed_over_its_default_bins_and_over_tensorrts(mobilenet_v2_file: Path) -> None:
    searches = peer_searches(mobilenet_v2_file)
    assert set(searches) == {128, 2048}
    assert all(search.tensors == 8 and search.slowest >= search.median > 0 for search in searches.values())


def test_peers_get_whole_batches() -> None:
    assert [whole_batches(count) for count in (1, 7, 8, 12, 128)] == [1, 7, 8, 8, 128]
