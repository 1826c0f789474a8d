"""The classes where TensorRT has no calibrators; with NVIDIA's base classes: tests/contract/suites."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from calibrators.batches import TensorSpec
from calibrators.errors import BuildError, MissingDependencyError
from calibrators.ranges import METHODS
from calibrators.tensorrt.calibrator import Calibrator
from tests.trtcal.test_package import python

KINDS = {
    "EntropyCalibrator2": ("EntropyCalibration2", "entropy"),
    "MinMaxCalibrator": ("MinMaxCalibration", "minmax"),
    "EntropyCalibrator": ("EntropyCalibration", "entropy"),
    "LegacyCalibrator": ("LegacyCalibration", "percentile"),
}
SPECS = [TensorSpec("x", (1, 3), np.dtype(np.float32))]
BATCHES = [np.zeros((2, 3), np.float32)]


@pytest.fixture
def int8(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module before any of its classes was asked for."""
    before = sys.modules.get("calibrators.tensorrt.int8")
    monkeypatch.delitem(sys.modules, "calibrators.tensorrt.int8", raising=False)
    yield importlib.import_module("calibrators.tensorrt.int8")
    if before is not None:
        sys.modules["calibrators.tensorrt.int8"] = before
        sys.modules["calibrators"].int8 = before  # type: ignore[attr-defined]


def without_calibrators(version: str = "11.4.0.106") -> ModuleType:
    module = ModuleType("tensorrt")
    module.__dict__["__version__"] = version
    return module


@pytest.mark.parametrize("name", KINDS)
def test_they_hold_batches_and_method(name: str, int8: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", without_calibrators())
    kind = getattr(int8, name)
    calibrator = kind(BATCHES, cache="m.cache")
    assert isinstance(calibrator, Calibrator) and kind is getattr(int8, name)
    assert (calibrator.algorithm, calibrator.method) == KINDS[name]
    assert calibrator.method in METHODS
    assert calibrator.batches is BATCHES and calibrator.cache == Path("m.cache")
    assert (kind.__module__, kind.__qualname__) == ("calibrators.tensorrt.int8", name)
    assert kind.__doc__ is not None and "TensorRT" in kind.__doc__


def test_in_tensorrt_11_they_say_that_it_has_none(int8: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", without_calibrators())
    calibrator = int8.EntropyCalibrator2(BATCHES)
    assert not calibrator.calibrates
    with pytest.raises(BuildError) as raised:
        calibrator.prepare(SPECS)
    assert str(raised.value) == (
        "EntropyCalibrator2 cannot calibrate, as TensorRT 11.4.0.106 has no calibrators: give it to "
        "trtcal.build_engine, which writes Q/DQ nodes from its batches, or calibrate with trtcal.collect and "
        "trtcal.calibrate"
    )


def test_without_tensorrt_they_say_so(int8: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(
        MissingDependencyError, match=r"^MinMaxCalibrator cannot calibrate, as TensorRT is not installed"
    ):
        int8.MinMaxCalibrator(BATCHES).prepare(SPECS)


def test_a_base_class_that_the_module_has_is_taken(int8: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what it has, not by its version."""
    made: list[object] = []

    class Base:
        def __init__(self) -> None:
            made.append(self)

    module = without_calibrators("12.0.0")
    module.__dict__.update(IInt8MinMaxCalibrator=Base, DataType=ModuleType("DataType"))
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    calibrator = int8.MinMaxCalibrator(BATCHES)
    assert isinstance(calibrator, Base) and calibrator.calibrates and made == [calibrator]
    assert not int8.EntropyCalibrator2.calibrates


def test_another_name_is_an_attribute_error(int8: Any) -> None:
    with pytest.raises(AttributeError, match=r"'calibrators\.tensorrt\.int8' has no attribute 'EntropyCalibrator3'"):
        _ = int8.EntropyCalibrator3


def test_tensorrt_is_imported_when_a_class_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "tensorrt.py").write_text("print('imported')\n__version__ = '11.0.0'\n")
    result = python(
        "import trtcal, calibrators.tensorrt.int8; print('before'); trtcal.EntropyCalibrator2; print('after')",
        folder=tmp_path,
    )
    assert result.stdout.split() == ["before", "imported", "after"], result.stderr
