"""A job to optimize: the demo's network, and some of its digits as arrays."""

from pathlib import Path

import numpy as np
import pytest

from trtcal.demo import MODEL

COUNT, TESTED = 64, 80


def digits_job(folder: Path) -> dict[str, Path]:
    """Write digits to calibrate on and labelled ones to judge by into a folder; what `trtcal.optimize` takes."""
    pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra [demo])")
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed (extra [rtx])")
    from trtcal.demo.digits import load_split

    split = load_split()
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "images.npz", images=split.train.images[:COUNT])
    some = split.test
    np.savez(folder / "test.npz", images=some.images[:TESTED], labels=some.labels[:TESTED])
    (folder / "digits.onnx").write_bytes(MODEL.read_bytes())
    return {"model": folder / "digits.onnx", "images": folder / "images.npz", "test_images": folder / "test.npz"}
