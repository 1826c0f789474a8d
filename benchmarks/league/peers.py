"""Peers, each of them in the environment that has it."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Peer:
    """Another tool's quantizer with one of its methods."""

    distribution: str
    method: str

    @property
    def name(self) -> str:
        """In the table."""
        return f"{self.distribution} {self.method}"


PEERS = (
    Peer("nvidia-modelopt", "max"),
    Peer("nvidia-modelopt", "entropy"),
    Peer("onnxruntime", "MinMax"),
    Peer("onnxruntime", "Entropy"),
    Peer("onnxruntime", "Percentile"),
)


@dataclass(frozen=True, slots=True)
class Failed:
    """Why a contestant has no figure."""

    reason: str


def installed(python: Path, peer: Peer) -> str | None:
    """The peer's version in that environment; None where it has none."""
    program = f"from importlib.metadata import version; print(version({peer.distribution!r}))"
    done = subprocess.run([str(python), "-c", program], capture_output=True, text=True, check=False)
    return done.stdout.strip() or None if done.returncode == 0 else None


def quantized(
    python: Path, peer: Peer, model: Path, calibration: Path, output: Path, *, seconds: float
) -> Mapping[str, str] | Failed:
    """Have a peer write `output`; gives the versions of what it ran on, or why it did not.

    Args:
        python: Of the environment that has the peer.
        peer: Which one.
        model: The float model.
        calibration: An `.npz` of samples.
        output: The model with Q/DQ nodes.
        seconds: How long it may take.
    """
    command = [str(python), str(HERE / "quantizers.py"), peer.distribution, peer.method]
    command += [str(each) for each in (model, calibration, output)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds, cwd=output.parent)
    except subprocess.TimeoutExpired:
        return Failed(f"stopped after {seconds:g} s")
    if done.returncode or not output.is_file():
        return Failed(last_line(done.stderr) or f"ended with {done.returncode}")
    versions: Mapping[str, str] = json.loads(done.stdout.strip().splitlines()[-1])
    return versions


def last_line(text: str) -> str:
    """Of what a process said: what failed, in tracebacks too."""
    return next((line.strip()[:200] for line in reversed(text.splitlines()) if line.strip()), "")
