"""TensorRT for RTX: builds engines on any machine, GPU or not; the only file that knows `tensorrt_rtx`.

What its documentation says and the builder (1.7) was seen to do:

- Graphs are strongly typed: there are no INT8 or FP16 flags and no calibrators.
- Without a compute capability an engine runs on 8.0, 8.6, 8.9, 12.0 and later; 7.5 must be asked for, and with 7.5 in
  the list no kernel is INT8 and a matrix product in FP32 is refused.
- A timing cache has no effect and makes the build ask for a GPU, so none is ever set.
- FP32 kernels may use TF32, which is the builder's default.
- It keeps the first logger it is given for as long as something of that logger lives: there is one for the process.
"""

import functools
import re
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibrators.errors import BuildError, MissingDependencyError
from engines.backends.backend import BoundTensor, Log, Plan, Severity
from engines.shapes import Profile

if TYPE_CHECKING:
    import onnx

_LOCK = threading.Lock()
"""One build at a time: the logger is shared."""


class TensorRTRTX:
    """The backend `tensorrt-rtx`; see `engines.backends.backend.Backend`.

    Raises:
        MissingDependencyError: `tensorrt_rtx` is not installed, or its libraries do not load.
    """

    name = "tensorrt-rtx"
    portable = "8.0 and later (Ampere and newer)"

    def __init__(self) -> None:
        try:
            import tensorrt_rtx
        except (ImportError, OSError) as error:
            raise MissingDependencyError(
                f"building with TensorRT-RTX needs tensorrt_rtx ({error}): pip install trtcal[rtx]"
            ) from error
        self._trt: Any = tensorrt_rtx
        self.version = str(tensorrt_rtx.__version__)
        self._capabilities = {
            f"{int(name[2:]) // 10}.{int(name[2:]) % 10}": value
            for name, value in tensorrt_rtx.ComputeCapability.__members__.items()
            if re.fullmatch(r"SM\d+", name)
        }
        self.compute_capabilities = tuple(self._capabilities)

    def build(
        self,
        model: "onnx.ModelProto",
        *,
        profiles: Mapping[str, Profile],
        compute_capabilities: tuple[str, ...],
        log: Log,
        progress: Callable[[int], None] | None,
    ) -> Plan:
        """See `Backend.build`."""
        stop = threading.Event()
        # The builder calls back into Python, and swallows what is raised there, Ctrl-C included. So it works in a
        # thread of its own, and this one, to which Ctrl-C comes, tells it to stop.
        done: Future[Plan] = Future()

        def work() -> None:
            try:
                plan = self._build(
                    model,
                    profiles=profiles,
                    compute_capabilities=compute_capabilities,
                    log=log,
                    progress=progress,
                    stop=stop,
                )
            except BaseException as error:  # noqa: BLE001 - it comes out of this method
                done.set_exception(error)
            else:
                done.set_result(plan)

        try:
            threading.Thread(target=work, name="tensorrt-rtx").start()
            return done.result()
        except KeyboardInterrupt:
            stop.set()
            wait([done])  # not the thread's own join, which an interrupt can make believe that it has ended
            raise

    def _build(
        self,
        model: "onnx.ModelProto",
        *,
        profiles: Mapping[str, Profile],
        compute_capabilities: tuple[str, ...],
        log: Log,
        progress: Callable[[int], None] | None,
        stop: threading.Event,
    ) -> Plan:
        trt = self._trt
        with _LOCK, _logged(_logger(), log):
            builder = trt.Builder(_logger())
            network = builder.create_network(0)
            parser = trt.OnnxParser(network, _logger())
            if not _parsed(parser, model):
                raise BuildError(_refusal(parser))
            config = builder.create_builder_config()
            config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
            config.progress_monitor = _monitor(progress, stop)
            config.num_compute_capabilities = len(compute_capabilities)
            for index, capability in enumerate(compute_capabilities):
                config.set_compute_capability(self._capabilities[capability], index)
            inputs = [network.get_input(index) for index in range(network.num_inputs)]
            outputs = [network.get_output(index) for index in range(network.num_outputs)]
            _add_profile(builder, config, inputs, profiles)
            data = None if stop.is_set() else builder.build_serialized_network(network, config)
            if data is None:
                raise BuildError(f"TensorRT-RTX cannot build the engine: {_reasons(log)}")
            return Plan(bytes(data), tuple(map(_bound, inputs)), tuple(map(_bound, outputs)))


def _parsed(parser: Any, model: "onnx.ModelProto") -> bool:
    from google.protobuf.message import EncodeError

    try:
        data = model.SerializeToString()
    except (EncodeError, ValueError):  # larger than the 2 GB that protobuf can write
        return _parsed_from_file(parser, model)
    return bool(parser.parse(data))


def _parsed_from_file(parser: Any, model: "onnx.ModelProto") -> bool:
    import onnx

    with tempfile.TemporaryDirectory(prefix="trtcal-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "model.onnx"
        copy = onnx.ModelProto()
        copy.CopyFrom(model)  # saving moves the data out of the model that it is given
        onnx.save(copy, path, save_as_external_data=True, location="model.data")
        return bool(parser.parse_from_file(str(path)))


def _add_profile(builder: Any, config: Any, inputs: list[Any], profiles: Mapping[str, Profile]) -> None:
    if not profiles:
        return
    profile = builder.create_optimization_profile()
    for tensor in inputs:
        if tensor.is_shape_tensor:
            raise BuildError(f"input {tensor.name} holds a shape, not data: make it a constant in the model")
        if tensor.name in profiles:
            wanted = profiles[tensor.name]
            profile.set_shape(tensor.name, wanted.minimum, wanted.optimum, wanted.maximum)
    if config.add_optimization_profile(profile) < 0:
        raise BuildError(
            "TensorRT-RTX refuses the shapes: " + ", ".join(f"{name}:{shape}" for name, shape in profiles.items())
        )


def _bound(tensor: Any) -> BoundTensor:
    return BoundTensor(tensor.name, tensor.dtype.name, tuple(tensor.shape))


def _refusal(parser: Any) -> str:
    """One line for what the parser refused, from its error list."""
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    nodes = {
        f"{error.node_operator()} {error.node_name()}".strip(): _plain(error.desc())
        or error.code().name.lower().replace("_", " ")
        for error in errors
    }
    listed = "; ".join(f"{node or 'the model'}: {reason}" for node, reason in nodes.items())
    count = f"{len(nodes)} operators" if len(nodes) > 1 else "an operator"
    return (
        f"TensorRT-RTX cannot take {count} of the model: {listed}; replace what it names in the model, or export it "
        "differently"
    )


def _reasons(log: Log) -> str:
    reasons = [_plain(message) for severity, message in log if severity == "error"]
    return (
        "; ".join(dict.fromkeys(reason for reason in reasons if reason))
        or "it gives no reason; --log FILE keeps its log"
    )


def _plain(message: str) -> str:
    """What an error says to a user: without error codes, places in TensorRT's source, or complaints of no GPU."""
    lines = [
        line for line in message.split("\n") if "catchCudaError" not in line and not line.startswith("Invalid Node - ")
    ]
    text = " ".join(" ".join(lines).split())
    if match := re.search(r"Error Code \d+: [^(]*\((.*)\)$", text):
        text = re.sub(r"^\[[^]]*\] ", "", match[1])
    text = re.sub(r"\.? In \S+ at /\S+$", "", text)
    text = re.sub(r'^creator && "(.*)"$', r"\1", text)
    return "" if text == "false" else text.rstrip(".")


@functools.cache
def _logger() -> Any:
    import tensorrt_rtx as trt

    severities: dict[Any, Severity] = {
        trt.ILogger.INTERNAL_ERROR: "error",
        trt.ILogger.ERROR: "error",
        trt.ILogger.WARNING: "warning",
        trt.ILogger.INFO: "info",
        trt.ILogger.VERBOSE: "verbose",
    }

    class Logger(trt.ILogger):  # type: ignore[misc]
        """Hands messages to whichever build is on."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.sink: Log | None = None

        def log(self, severity: Any, message: str) -> None:
            if self.sink is not None:
                self.sink.append((severities[severity], message))

    return Logger()


@contextmanager
def _logged(logger: Any, sink: Log) -> Iterator[None]:
    logger.sink = sink
    try:
        yield
    finally:
        logger.sink = None


def _monitor(progress: Callable[[int], None] | None, stop: threading.Event) -> Any:
    import tensorrt_rtx as trt

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Counts the builder's steps, and stops it at the next one."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            """Not of interest."""

        def phase_finish(self, phase_name: str) -> None:
            """Not of interest."""

        def step_complete(self, phase_name: str, step: int) -> bool:
            """Whether to go on."""
            if progress is not None:
                progress(1)
            return not stop.is_set()

    return Monitor()
