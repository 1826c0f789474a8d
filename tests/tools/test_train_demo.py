"""The script that trains the demo's network: what it exports, with random weights (training takes minutes)."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

torch = pytest.importorskip("torch", "2.8", reason="PyTorch 2.8 is not installed (extra [train])")
pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra [demo])")

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "train_demo.py"


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPT.parent))  # as for a script that is run
        yield importlib.import_module("train_demo")


@pytest.mark.slow
def test_an_exported_network_computes_what_pytorch_does_and_is_named_by_module(script: ModuleType) -> None:
    from trtcal.demo.digits import load_split

    torch.manual_seed(0)
    network = script.DigitNet()
    model = script.exported(network, {"seed": "0"})
    assert script.check(model, network, script.tensors(load_split().test)[0]) < 1e-4
    assert {entry.key: entry.value for entry in model.metadata_props} == {"seed": "0"}
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    assert {"stem.conv", "pool", "block1", "block3.widen.act.Sigmoid", "block3.widen.act", "head.norm"} <= set(names)


def test_an_augmented_image_keeps_its_shape_and_its_range(script: ModuleType) -> None:
    images = torch.rand(7, 1, 32, 32)
    augmented = script.augmented(images, torch.Generator().manual_seed(0))
    assert augmented.shape == images.shape
    assert float(augmented.min()) >= 0 and float(augmented.max()) <= 1 + 1e-6
    again = script.augmented(images, torch.Generator().manual_seed(0))
    assert torch.equal(augmented, again)
