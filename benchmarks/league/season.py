"""One network of the league: what each contestant's INT8 model loses against the float model."""

import math
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.analysis.job import TRTCAL
from benchmarks.league.networks import Network
from benchmarks.league.peers import Failed, Peer, last_line, quantized
from calibrators.errors import TrtcalError

DEFAULT = "trtcal's default"
FLOAT = "FP32"


@dataclass(frozen=True, slots=True)
class Files:
    """A network as files, which every contestant reads."""

    model: Path
    calibration: Path
    test: Path

    @classmethod
    def written(cls, network: Network, folder: Path) -> "Files":
        """Write them into a folder."""
        files = cls(folder / "model.onnx", folder / "calibration.npz", folder / "test.npz")
        model = onnx.ModelProto.FromString(network.model.SerializeToString())
        # before version 4 weights had to be inputs too: a peer's shape inference refuses a model without such
        model.ir_version = max(model.ir_version, 4)
        onnx.save(model, files.model)
        for path, samples in ((files.calibration, network.calibration), (files.test, network.test)):
            np.savez(path, **{network.input: np.ascontiguousarray(samples, np.float32)})
        return files


@dataclass(slots=True)
class Season:
    """What was found of a network.

    Attributes:
        sqnr: By contestant, of the worst output or group of channels, in dB.
        worst: By contestant, which one that is.
        failed: Why others have no figure.
        left_float: By contestant, how many weighted operators have no pair in front.
        versions: Of what peers ran on.
    """

    sqnr: dict[str, float] = field(default_factory=dict)
    worst: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    left_float: dict[str, int] = field(default_factory=dict)
    versions: dict[str, Mapping[str, str]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """For JSON, which has no infinities."""
        finite = {name: value if math.isfinite(value) else None for name, value in self.sqnr.items()}
        told = {"worst": self.worst, "failed": self.failed, "left_float": self.left_float, "versions": self.versions}
        return {"sqnr_db": finite, **told}


def played(
    files: Files, folder: Path, *, methods: Sequence[str], peers: Sequence[tuple[Path, Peer]], seconds: float
) -> Season:
    """Quantize a network by the default, by methods and by peers, and judge all on the same samples.

    Args:
        files: The network.
        folder: Where the INT8 models are written.
        methods: Of trtcal.
        peers: Each with the Python of its environment.
        seconds: How long a peer may take.
    """
    season, models = Season(), dict[str, Path]()
    for name, made in _own(files, folder, methods):
        if isinstance(made, Failed):
            season.failed[name] = made.reason
        else:
            models[name] = made
    for python, peer in peers:
        output = folder / f"{peer.name.replace(' ', '-')}.onnx"
        told = quantized(python, peer, files.model, files.calibration, output, seconds=seconds)
        if isinstance(told, Failed):
            season.failed[peer.name] = told.reason
        else:
            models[peer.name], season.versions[peer.name] = output, told
    for name, path in models.items():
        _judge(season, files, name, path)
    return season


def _own(files: Files, folder: Path, methods: Sequence[str]) -> Iterator[tuple[str, Path | Failed]]:
    """The default as a user has it, by two commands without an option; then each method in INT8 throughout."""
    from calibrators.ranges import calibrate
    from engines.collection.collect import collect
    from engines.graph.model import input_specs, loaded
    from trtcal.data.images import open_images
    from trtcal.pipeline import quantize

    cache, output = folder / "default.cache", folder / "default.onnx"
    images = ["--images", str(files.calibration), "--preprocess", "none"]
    why = _run("calibrate", str(files.model), *images, "--output", str(cache))
    why = why or _run("quantize", str(files.model), "--cache", str(cache), "--output", str(output))
    yield DEFAULT, Failed(why) if why else output
    if not methods:
        return
    inputs = input_specs(loaded(files.model))
    statistics = collect(files.model, open_images(files.calibration, inputs, preprocess="none"), tensors="quantizable")
    for method in methods:
        path = folder / f"{method.replace(':', '-')}.onnx"
        try:
            quantize(files.model, calibrate(statistics, method), output=path)
        except TrtcalError as error:
            yield method, Failed(str(error))
        else:
            yield method, path


def _run(*arguments: str) -> str:
    """Run a command of trtcal; gives why it failed, or nothing."""
    done = subprocess.run([sys.executable, *TRTCAL, *arguments], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else last_line(done.stderr) or f"ended with {done.returncode}"


def _judge(season: Season, files: Files, name: str, path: Path) -> None:
    """Measure a model as `trtcal compare` does: sample by sample, the worst output or group of channels."""
    from engines.sessions.onnxruntime import OnnxRuntimeSession
    from trtcal.data.images import open_images
    from trtcal.measure.accuracy import evaluate
    from trtcal.measure.groups import Singles

    try:
        with OnnxRuntimeSession(files.model) as reference, OnnxRuntimeSession(path) as session:
            test = open_images(files.test, reference.inputs, preprocess="none")
            samples = Singles(test, reference.fixed_batch or 1)
            score = evaluate({FLOAT: reference, name: session}, samples, reference=FLOAT).scores[name]
    except TrtcalError as error:
        season.failed[name] = str(error)
        return
    season.sqnr[name], season.worst[name] = score.sqnr, score.worst
    season.left_float[name] = in_float(onnx.load(path))


def in_float(model: onnx.ModelProto) -> int:
    """How many Conv, ConvTranspose, Gemm and MatMul of a model read no dequantized activation."""
    made_by = {output: node.op_type for node in model.graph.node for output in node.output}
    weighted = [node for node in model.graph.node if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul")]
    return sum(made_by.get(node.input[0]) != "DequantizeLinear" for node in weighted)
