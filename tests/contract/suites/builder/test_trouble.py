"""Builds that `tensorrt` refuses, or that are interrupted: one line each, and nothing is left behind."""

import os
import re
import signal
import sys
import time

import numpy as np
import pytest

from calibrators.errors import (
    BuildError,
    DataError,
    DeviceError,
    MissingDependencyError,
)
from calibrators.installation import pip_install
from calibrators.tensorrt import int8
from engines.build.builder import build_engine
from engines.build.request import open_backend
from tests.contract.builds import batches, left_alone


class OddError(Exception):
    pass


def failing():
    yield batches()[0]
    raise OddError("the disk is gone")


class Failing:
    def __iter__(self):
        return failing()


def test_what_a_calibrators_data_raises_comes_out_as_it_was(world, plain, target, tmp_path):
    calibrator = int8.EntropyCalibrator2(Failing(), cache=tmp_path / "model.cache")
    with pytest.raises(OddError, match="the disk is gone"):
        build_engine(plain, output=target, backend="tensorrt", calibrator=calibrator, shapes="x:2x16x8x8")
    assert left_alone(target)
    assert not (tmp_path / "model.cache").exists()


@pytest.mark.usefixtures("only_weak")
def test_data_that_does_not_fit(world, plain, target):
    calibrator = int8.EntropyCalibrator2([np.zeros((2, 3, 8, 8), np.float32)])
    with pytest.raises(DataError, match="takes x"):
        build_engine(plain, output=target, backend="tensorrt", calibrator=calibrator)
    assert left_alone(target)


def test_ctrl_c_while_it_builds(trt, world, plain, target, tmp_path):
    if not hasattr(trt, "IProgressMonitor"):
        pytest.skip("this version reports nothing while it builds, and cannot be stopped")
    pressed: list[int] = []

    def interrupt(step):
        pressed.append(step)
        if len(pressed) == 1:
            os.kill(os.getpid(), signal.SIGINT)

            time.sleep(0.2)  # the other thread has its turn

    with pytest.raises(KeyboardInterrupt):
        build_engine(
            plain, output=target, backend="tensorrt", precision="fp32", progress=interrupt, log=target.parent / "log"
        )
    assert left_alone(target)


@pytest.mark.usefixtures("only_weak")
def test_ctrl_c_while_it_calibrates(world, plain, target, tmp_path):
    def on_batch(names, addresses):
        if world.calibrated.count("get_batch") == 1:
            os.kill(os.getpid(), signal.SIGINT)

            time.sleep(0.2)

    world.on_batch = on_batch
    calibrator = int8.EntropyCalibrator2(batches(), cache=tmp_path / "model.cache")
    with pytest.raises(KeyboardInterrupt):
        build_engine(plain, output=target, backend="tensorrt", calibrator=calibrator, shapes="x:2x16x8x8")
    assert calibrator.served == 1
    assert left_alone(target)
    assert not (tmp_path / "model.cache").exists()


def test_operators_that_the_parser_refuses(trt, world, plain, target):
    world.parser_errors = [
        world.parser_error('creator && "Plugin not found"', node=0, node_name="c1", node_operator="Conv"),
        world.parser_error("no such axis", node=3, node_name="c2_relu", node_operator="Relu"),
    ]
    with pytest.raises(BuildError) as raised:
        build_engine(plain, output=target, backend="tensorrt", precision="fp32")
    said = str(raised.value)
    assert f"TensorRT {trt.__version__} cannot take 2 operators of the model: " in said
    assert "Conv c1: Plugin not found; Relu c2_relu: no such axis; replace what it names" in said
    assert "\n" not in said
    assert left_alone(target)


def test_a_parser_that_names_no_node(world, plain, target):
    world.parser_errors = [world.parser_error("bad bytes", node=-1)]
    with pytest.raises(BuildError, match="the model: bad bytes"):
        build_engine(plain, output=target, backend="tensorrt", precision="fp32")


def test_a_build_that_fails_with_a_reason(trt, world, plain, target, tmp_path):
    world.plan = None
    world.says = [
        (trt.ILogger.ERROR, "10: [optimizer.cpp::computeCosts::3869] Error Code 10: Internal Error (Could not find any "
        "implementation for node c1.)"),
    ]  # fmt: skip
    with pytest.raises(BuildError, match=r"cannot build the engine: Could not find any implementation for node c1$"):
        build_engine(plain, output=target, backend="tensorrt", precision="fp32", log=tmp_path / "log")
    assert "[error] 10: " in (tmp_path / "log").read_text()
    assert left_alone(target)


def test_a_build_that_fails_without_a_reason(world, plain, target):
    world.plan = None
    with pytest.raises(BuildError, match="it gives no reason; --log FILE keeps its log"):
        build_engine(plain, output=target, backend="tensorrt", precision="fp32")


@pytest.mark.parametrize(
    "text",
    [
        "1: [defaultAllocator.cpp::allocate::21] Error Code 1: Cuda Runtime (out of memory)",
        "2: [virtualMemoryBuffer.cpp::resizePhysical::127] Error Code 2: OutOfMemory (no further information)",
        "IBuilder::buildSerializedNetwork: Error Code 1: Cuda Runtime (cudaErrorMemoryAllocation)",
    ],
)
def test_too_little_memory(trt, world, plain, target, text):
    world.plan = None
    world.says = [(trt.ILogger.ERROR, text)]
    with pytest.raises(DeviceError, match=r"too little free memory .*--workspace.*--shapes"):
        build_engine(plain, output=target, backend="tensorrt", precision="fp32")


def test_shapes_that_are_refused(world, plain, target):
    config = world._building._config

    def refusing():
        made = config()
        made.add_optimization_profile.side_effect = lambda profile: -1
        return made

    world._building._config = refusing
    with pytest.raises(BuildError, match=r"refuses the shapes: x:1x16x8x8\.\.8x16x8x8"):
        build_engine(plain, output=target, backend="tensorrt", precision="fp32")


@pytest.mark.usefixtures("only_weak")
def test_calibration_shapes_that_are_refused(world, plain, target):
    config = world._building._config

    def refusing():
        made = config()
        made.set_calibration_profile.side_effect = lambda profile: False
        return made

    world._building._config = refusing
    with pytest.raises(BuildError, match="refuses to calibrate in the shapes x:8x16x8x8"):
        build_engine(plain, output=target, backend="tensorrt", calibrator=int8.EntropyCalibrator2(batches()))


def test_without_a_gpu(trt, plain, target, monkeypatch):
    """Without the world: the real Builder, whose library gives null, as without a GPU."""

    def absent():
        raise DeviceError("there is no NVIDIA GPU")

    monkeypatch.setattr("calibrators.cuda.device.open_cuda", absent)
    with pytest.raises(
        DeviceError, match=r"needs an NVIDIA GPU to build: there is no .*; TensorRT-RTX .*--backend tensorrt-rtx$"
    ):
        build_engine(plain, output=target, backend="tensorrt", precision="fp32")

    def missing():
        raise MissingDependencyError("neither PyCUDA nor cuda.bindings")

    monkeypatch.setattr("calibrators.cuda.device.open_cuda", missing)
    with pytest.raises(DeviceError, match=r"it finds none that works; .*--backend tensorrt-rtx$"):
        build_engine(plain, output=target, backend="tensorrt", precision="fp32")
    assert left_alone(target)


@pytest.mark.parametrize(("code", "said"), [(35, "driver is too old"), (100, "none that works .CUDA error 100")])
def test_a_driver_that_is_too_old(trt, world, plain, target, monkeypatch, code, said):
    def missing():
        raise MissingDependencyError("neither PyCUDA nor cuda.bindings")

    def null(logger):
        world.log(logger, "ERROR", f"6: CUDA initialization failure with error: {code}. Please check your CUDA")
        raise TypeError("pybind11::init(): factory function returned nullptr")

    monkeypatch.setattr("calibrators.cuda.device.open_cuda", missing)
    # Undone before `world` puts the real Builder back.
    with monkeypatch.context() as patched, pytest.raises(DeviceError, match=said) as raised:
        patched.setattr(trt, "Builder", null)
        build_engine(plain, output=target, backend="tensorrt", precision="fp32")
    assert "\n" not in str(raised.value)


def test_a_gpu_whose_name_nobody_knows(world, plain, target, monkeypatch):
    def missing():
        raise MissingDependencyError("neither PyCUDA nor cuda.bindings")

    monkeypatch.setattr("calibrators.cuda.device.open_cuda", missing)
    record = build_engine(plain, output=target, backend="tensorrt", precision="fp32").record
    assert (record.gpu, record.portable) == (None, "that of the GPU that it was built on")


def test_auto_is_tensorrt_where_there_is_a_gpu(world):
    assert open_backend().name == "tensorrt"


def test_auto_without_a_gpu(plain, target, monkeypatch):
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")

    def absent():
        raise DeviceError("there is no NVIDIA GPU")

    monkeypatch.setattr("calibrators.cuda.device.open_cuda", absent)
    record = build_engine(plain, output=target, precision="fp32").record
    assert record.backend == "tensorrt-rtx"
    assert any("built with TensorRT-RTX, though tensorrt is installed: " in note for note in record.notes)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(
        DeviceError,
        match=r"there is no NVIDIA GPU; TensorRT-RTX .* is not installed: " + re.escape(pip_install("rtx")) + "$",
    ):
        build_engine(plain, output=target, precision="fp32")
