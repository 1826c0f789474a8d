"""Training in two processes: both begin and go on with the same scales, those of the whole batch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra [torch])")

from calibrators.statistics.tensor import TensorStatistics
from tests.trtcal.qat import ranks
from trtcal.qat.distributed import largest_over_ranks, mean_over_ranks, merged_over_ranks

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, device):
    """What each of two processes has come to."""
    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        pytest.skip("this PyTorch has no gloo")
    folder = tmp_path_factory.mktemp("ranks")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "OMP_NUM_THREADS": "1"}
    program = [sys.executable, "-m", "tests.trtcal.qat.ranks"]
    processes = [
        subprocess.Popen(
            [*program, str(rank), "2", str(folder), device], cwd=ROOT, env=environment, stderr=subprocess.PIPE
        )
        for rank in range(2)
    ]
    told = [process.communicate()[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(told)
    return [torch.load(folder / f"{rank}.pt", map_location="cpu", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("activation, weight, symmetric", ranks.CASES)
def test_both_begin_with_the_range_of_the_whole_batch_and_stay_together(trained, device, activation, weight, symmetric):
    (first, state), (other_first, other_state) = (each[activation, weight, symmetric] for each in trained)
    assert first.keys() == other_first.keys() and state.keys() == other_state.keys()
    assert all(torch.equal(first[key], other_first[key]) for key in first)
    alone = ranks.prepared(activation, weight, symmetric)
    alone(ranks.batch())
    closely = 1e-6 if device == "cpu" else 1e-5  # sums in another order
    for key, value in first.items():
        torch.testing.assert_close(value, getattr(alone.conv.input_quantizer, key).detach(), rtol=closely, atol=0)
    moved = 0
    for key, value in state.items():
        if "quantizer" not in key and "running" in key:
            continue  # batch normalization has each process's own statistics, as ever
        if key.endswith("_extra_state"):
            assert value == other_state[key], key
        else:
            assert torch.equal(value, other_state[key]), key
            moved += key in ("conv.input_quantizer.step", "fc.weight_quantizer.step")
    assert moved == (2 if "lsq" in weight else activation.startswith("lsq"))


def test_alone_a_process_agrees_with_itself():
    assert mean_over_ranks(torch.tensor(6.0), 4).item() == 1.5
    assert largest_over_ranks(torch.tensor(2.0)).item() == 2.0
    statistics = TensorStatistics.of([1.0, 2.0])
    assert merged_over_ranks(statistics) == statistics
