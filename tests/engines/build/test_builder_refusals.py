"""What `build_engine` refuses, and that it leaves nothing half done."""

import errno
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibrators.errors import BuildError, MissingDependencyError, ModelError, OutputError
from engines.build.builder import build_engine

pytestmark = pytest.mark.usefixtures("rtx")


def left_alone(folder: Path) -> bool:
    return not list(folder.iterdir())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"precision": "int4"}, "precision is int8, fp16 or fp32"),
        ({"precision": "fp32", "rest": "fp16"}, "--rest fp16 is for INT8 builds"),
        ({"precision": "fp16"}, "has Q/DQ nodes and is to be built in fp16: give the float model"),
        ({"precision": "fp32"}, "has Q/DQ nodes and is to be built in fp32"),
        ({"cache": "plain.cache"}, "the model has Q/DQ nodes already, so its ranges are in it: leave out the cache"),
        ({"shapes": "y:1x2"}, "shapes are given for y"),
        ({"shapes": "x:1x16x16x17"}, "do not fit the input"),
        ({"compute_capabilities": ["99"]}, r"does not build for compute capability 99: it knows 7.5, 8.0, 8.6"),
        ({"compute_capabilities": ["new"]}, "does not build for compute capability new"),
        ({"backend": "openvino"}, "there is no backend openvino"),
    ],
)
def test_what_does_not_go_together(
    quantized: Path, cache: Path, target: Path, options: dict[str, Any], said: str
) -> None:
    if "cache" in options:
        options["cache"] = cache
    with pytest.raises(BuildError, match=said) as raised:
        build_engine(quantized, output=target, **options)
    assert "\n" not in str(raised.value)
    assert left_alone(target.parent)


def test_a_float_model_without_ranges(plain: Path, target: Path) -> None:
    with pytest.raises(BuildError, match=r"needs ranges: .*\(--cache\).*\(--images\).*Q/DQ nodes"):
        build_engine(plain, output=target)


def test_a_cache_for_a_float_build(plain: Path, cache: Path, target: Path) -> None:
    with pytest.raises(BuildError, match="the build is in fp16: leave out the cache"):
        build_engine(plain, output=target, precision="fp16", cache=cache)


def test_tensorrt_is_not_installed(quantized: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(MissingDependencyError, match=r"needs tensorrt .*\[tensorrt\].*--backend tensorrt-rtx"):
        build_engine(quantized, output=target, backend="tensorrt")
    assert build_engine(quantized, output=target).record.backend == "tensorrt-rtx"
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(MissingDependencyError, match=r"neither .*\[tensorrt\].*\[rtx\]") as raised:
        build_engine(quantized, output=target)
    assert "\n" not in str(raised.value)


def test_a_model_that_tensorrt_would_misread(network: Any, target: Path) -> None:
    built = network("N", 16, 8, 8)
    pairs = [built.quantized("x", name, zero_point=np.uint8(0)) for name in ("first", "second")]
    with pytest.raises(BuildError, match=r"first_DQ \(x\) is UINT8.* \(1 more like this: trtcal inspect lists them\)"):
        build_engine(built.model(built.node("Add", pairs, "sum")), output=target)


@pytest.mark.parametrize("content", [None, b"", b"no model", b"\x08\x07"])
def test_no_model(target: Path, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "broken.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=r"broken\.onnx"):
        build_engine(path, output=target, precision="fp32")
    assert left_alone(target.parent)


def test_outputs_that_cannot_be_written(quantized: Path, target: Path) -> None:
    for path in (target.parent / "absent" / "model.engine", target.parent):
        with pytest.raises(OutputError):
            build_engine(quantized, output=path)


def test_outputs_that_would_overwrite_what_is_read(quantized: Path, plain: Path, cache: Path) -> None:
    before = [path.read_bytes() for path in (quantized, plain, cache)]
    link, new = plain.with_name("link.engine"), plain.with_name("m.engine")
    link.symlink_to(plain)
    cases: list[tuple[Path, dict[str, Any], str]] = [
        (quantized, {"output": quantized}, "it is read, and would be lost"),
        (plain, {"output": link}, "it is read, and would be lost"),
        (plain, {"output": cache, "cache": cache}, "it is read, and would be lost"),
        (plain, {"output": new, "log": plain}, "it is read, and would be lost"),
        (plain, {"output": new, "log": cache, "cache": cache}, "it is read, and would be lost"),
        (plain, {"output": new, "log": f"{new}.json"}, "two outputs would be this one file"),
    ]
    for model, options, said in cases:
        with pytest.raises(OutputError, match=f"cannot write .*: {said}"):
            build_engine(model, **options)
    assert [path.read_bytes() for path in (quantized, plain, cache)] == before


@pytest.mark.parametrize("which", ["engine", "sidecar"])
def test_a_full_disk_leaves_the_old_engine(
    quantized: Path, target: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    build_engine(quantized, output=target)
    before = {path: path.read_bytes() for path in target.parent.iterdir()}

    def full(*_: Any, **__: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes" if which == "engine" else "write_text", full)
    with pytest.raises(OutputError, match="no space left"):
        build_engine(quantized, output=target, rest="fp32")
    monkeypatch.undo()
    assert {path: path.read_bytes() for path in target.parent.iterdir()} == before


def test_ctrl_c_leaves_the_old_engine(quantized: Path, target: Path) -> None:
    build_engine(quantized, output=target)
    before = {path: path.read_bytes() for path in target.parent.iterdir()}
    pressed: list[int] = []

    def interrupt(step: int) -> None:
        pressed.append(step)
        if len(pressed) == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        build_engine(quantized, output=target, progress=interrupt, log=target.with_name("log"))
    assert {path: path.read_bytes() for path in target.parent.iterdir()} == before
