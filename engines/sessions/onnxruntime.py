"""Sessions: something that runs a model on a batch and gives its outputs as arrays."""

import ast
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from calibrators.batches import Array, TensorSpec, bind
from calibrators.errors import ModelError, one_line
from calibrators.files import temporary_folder
from engines.graph.chunks import run_in_chunks, sample_count, shapes_of
from engines.graph.cores import usable_cores
from engines.graph.foreign import path_of
from engines.graph.runtime import DTYPES
from engines.sessions.closing import Closing
from engines.sessions.opening import opened

if TYPE_CHECKING:
    import onnx

ENGINE_SUFFIXES = (".engine", ".plan")
"""What files of serialized engines are called."""

Arithmetic = Literal["int8", "default", "literal"]
"""What ONNX Runtime makes of Q/DQ nodes: "int8", kernels on the nodes' own integers, as TensorRT has them; "default",
what it does with default options, which on x86 turns INT8 into UINT8; "literal", what the nodes say and no more. The
first two also round biases between Q/DQ nodes to INT32."""

_MERGES_PAIRS = "DoubleQDQPairsRemover"
"""What makes one pair of two in a row in ONNX Runtime (1.32), with `disable_quant_qdq` too: other numbers come out."""


class Session(Protocol):
    """A model that runs: samples on the first axis of what goes in and of what comes out."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What `run` takes, in the model's order."""
        ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What `run` gives, in the model's order."""
        ...

    def run(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name, for arrays by input name; a lone array may stand under `calibrators.batches.IMAGE`."""
        ...

    def close(self) -> None:
        """Let go of the memory; the session cannot run afterwards."""
        ...

    def __enter__(self) -> "Session": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


def open_session(path: str | os.PathLike[str], *, threads: int | None = None) -> Session:
    """Open a model with what runs it: an ONNX file in ONNX Runtime on the CPU, an engine in its TensorRT on the GPU.

    Args:
        path: An ONNX file, or an engine: a file whose name ends as `ENGINE_SUFFIXES` has it.
        threads: As `OnnxRuntimeSession` has it; engines need none.

    Raises:
        DeviceError: There is no GPU for the engine, its driver is too old, or its memory does not suffice.
        EngineError: `path` is an engine that cannot run here, or that trtcal cannot feed.
        MissingDependencyError: The engine's TensorRT, or a CUDA library for Python, is not installed.
        ModelError: `path` is no ONNX model that ONNX Runtime can run.
    """
    path = Path(path)
    if is_engine(path):
        from engines.sessions.tensorrt import TensorRTSession

        return TensorRTSession(path)
    return OnnxRuntimeSession(path, threads=threads)


def is_engine(path: str | os.PathLike[str]) -> bool:
    """Whether a file is taken for a serialized engine, by its name."""
    return Path(path).suffix.lower() in ENGINE_SUFFIXES


class OnnxRuntimeSession(Closing):
    """An ONNX model in ONNX Runtime on the CPU.

    Any number of samples runs: a model whose batch size is fixed at B runs B of them at a time, the last one repeated
    until the last run is full, and what the repeats give is cut off.

    Args:
        model: A file, with its external data beside it, or a model in memory that holds all its data.
        threads: Threads that share one operator, at most 4 for each core that this process may use; None takes 1 for
            each.
        arithmetic: Of a model with Q/DQ nodes. One with a bias that INT32 does not hold is computed literally.

    Attributes:
        inputs: The inputs that need an array: initializers listed as inputs, as older exporters do, are left out.
        outputs: The outputs.
        threads: The number of threads in use.
        fixed_batch: The only number of samples that the model takes at a time; None where it is free.
        data_sized: The outputs whose size depends on the data -> the label of the node that decides it.
        class_names: What the model's metadata calls its classes, by number, as Ultralytics exports them; empty where it
            does not.
        remarks: What is computed otherwise than was asked for, and why; outputs that are left out.

    Raises:
        ModelError: The model is missing, corrupt, or nothing that ONNX Runtime can run; or too many threads, or none.
    """

    def __init__(
        self,
        model: "str | os.PathLike[str] | onnx.ModelProto",
        *,
        threads: int | None = None,
        arithmetic: Arithmetic = "int8",
    ) -> None:
        if threads is not None and threads < 1:
            raise ModelError(f"a session needs at least 1 thread, not {threads}")
        if threads is not None and threads > (most := 4 * usable_cores()):
            raise ModelError(f"{threads} threads are too many for {usable_cores()} core(s): give {most} at most")
        import onnx

        from engines.graph.data_sizes import data_sized_outputs
        from engines.graph.model import plain_source
        from engines.qdq.biases import overflowing_biases_of

        if not isinstance(model, onnx.ModelProto):
            path_of(model)  # refuses what is none
        self.threads = threads or usable_cores()
        self._name = str(model) if isinstance(model, (str, os.PathLike)) else "the model in memory"
        model, odd = plain_source(model)
        overflowing = () if arithmetic == "literal" else overflowing_biases_of(model)
        arithmetic = "literal" if overflowing else arithmetic
        literal = (_LITERAL.format(len(overflowing), overflowing[0]),) if overflowing else ()
        self.remarks = (*(f"run {line}" for line in odd), *literal)
        if isinstance(model, (str, os.PathLike)):
            self._runtime: Any = _from_file(Path(model), self.threads, arithmetic)
        else:
            self._runtime = in_memory(model, self.threads, arithmetic)
        self.inputs = tuple(self._spec(value, "input") for value in self._runtime.get_inputs())
        self.outputs = tuple(self._spec(value, "output") for value in self._runtime.get_outputs())
        self.fixed_batch = self._fixed_batch()
        self.data_sized = data_sized_outputs(model)
        self.class_names = _class_names(self._runtime.get_modelmeta().custom_metadata_map.get("names", ""))

    def run(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        """Run the samples of `batch`.

        Args:
            batch: Arrays by input name, samples on the first axis, in any precision of the right kind of number.

        Returns:
            Arrays by output name.

        Raises:
            DataError: The arrays do not fit the inputs.
            ModelError: The model fails on them, or gives an output that cannot be cut into samples.
        """
        feed = bind(batch, self.inputs)
        count = sample_count(self._name, feed)
        size = self.fixed_batch or count
        return run_in_chunks(self._name, self._run, feed, fewest=size, most=size)

    def close(self) -> None:
        """Let go of the model; the session cannot run afterwards."""
        self._runtime = None

    def _run(self, feed: dict[str, Array]) -> dict[str, Array]:
        if self._runtime is None:
            raise ModelError(f"the session of {self._name} is closed; open another")
        try:
            values = self._runtime.run(None, feed)
        except _runtime_errors() as error:
            raise ModelError(f"{self._name} fails on an input of {shapes_of(feed)}: {_reason(error)}") from error
        return {spec.name: value for spec, value in zip(self.outputs, values, strict=True)}

    def _spec(self, value: Any, role: str) -> TensorSpec:
        dtype = DTYPES.get(value.type)
        if dtype is None:
            way = "" if role == "input" else ": make the tensors that it is made of outputs in its place"
            raise ModelError(f"{self._name}: {role} {value.name} is a {value.type}, which trtcal cannot handle{way}")
        if role == "input" and not value.shape:
            raise ModelError(
                f"{self._name}: input {value.name} has no axis of samples, or no shape: state it, or make it constant"
            )
        shape = tuple(size or None for size in value.shape)
        return TensorSpec(value.name, shape, np.dtype(dtype))

    def _fixed_batch(self) -> int | None:
        sizes = {spec.shape[0] for spec in self.inputs if isinstance(spec.shape[0], int)}
        if len(sizes) > 1:
            inputs = ", ".join(map(str, self.inputs))
            raise ModelError(f"{self._name}: its inputs have different batch sizes on their first axis: {inputs}")
        return next(iter(sizes), None)


def _class_names(text: str) -> tuple[str, ...]:
    """The names in metadata such as "{0: 'person', 1: 'bicycle'}"; none where it is anything else."""
    try:
        names = ast.literal_eval(text) if len(text) < 2**20 else None
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return ()
    if not isinstance(names, dict) or set(names) != set(range(len(names))):
        return ()
    return tuple(str(names[number]) for number in range(len(names)))


_LITERAL = (
    "computed as its nodes say, without integer kernels: {} layer(s), such as {}, have biases that do not fit in INT32 "
    "with the scale input x weight, which ONNX Runtime's kernels would round them to; TensorRT adds biases in float"
)


def _from_file(path: Path, threads: int, arithmetic: Arithmetic) -> Any:
    if not path.is_file():
        found = "it is a folder" if path.is_dir() else "there is no such file"
        raise ModelError(f"cannot read the model {path}: {found}; give an ONNX file")
    return _opened(str(path), str(path), threads, arithmetic)


def in_memory(model: "onnx.ModelProto", threads: int, arithmetic: Arithmetic, *, shared: bool = False) -> Any:
    """ONNX Runtime's session of a model in memory.

    Args:
        model: With all its data.
        threads: That share one operator.
        arithmetic: As `OnnxRuntimeSession` has it.
        shared: Whether activations lie in memory that all such sessions have in common, so that many cost no more than
            one.

    Raises:
        ModelError: ONNX Runtime refuses it.
    """
    from google.protobuf.message import EncodeError
    from onnx.external_data_helper import uses_external_data

    apart = [tensor.name for tensor in model.graph.initializer if uses_external_data(tensor)]
    if apart:
        raise ModelError(f"the data of {apart[0]} is in another file: load it into the model, or give the model's path")
    try:
        source = model.SerializeToString()
    except (EncodeError, ValueError):  # larger than the 2 GB that protobuf can write
        return _through_a_file(model, threads, arithmetic)
    return _opened(source, "the model in memory", threads, arithmetic, shared=shared)


def _through_a_file(model: "onnx.ModelProto", threads: int, arithmetic: Arithmetic) -> Any:
    import onnx

    with temporary_folder() as folder:
        path = folder / "model.onnx"
        copy = onnx.ModelProto()
        copy.CopyFrom(model)  # saving moves the data out of the model that it is given
        onnx.save(copy, path, save_as_external_data=True, location="model.data")
        return _opened(str(path), "the model in memory", threads, arithmetic)


def _opened(source: str | bytes, name: str, threads: int, arithmetic: Arithmetic, *, shared: bool = False) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if shared:
        _share_memory()
        options.add_session_config_entry("session.use_env_allocators", "1")
    options.log_severity_level = 4  # errors come as exceptions; the rest would go to standard error
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads spin for a while after a run, and a second model, or decoding, would have to fight them for the cores.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # On x86 it would turn the int8 of Q/DQ nodes into uint8, and up to 1.24 then makes garbage of a MatMul.
    if arithmetic != "default":
        options.add_session_config_entry("session.qdqisint8allowed", "1")
    if arithmetic == "literal":
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    left_out = [] if arithmetic == "default" else [_MERGES_PAIRS]
    try:
        return opened(source, options, without=left_out)
    except _runtime_errors() as error:
        raise ModelError(f"ONNX Runtime cannot open {name}: {_reason(error)}") from error


@cache
def _share_memory() -> None:
    """Give this process the memory for activations that sessions may have in common."""
    import onnxruntime as ort

    info = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(info, ort.OrtArenaCfg(0, 1, -1, -1))  # no bound; grow as it is asked for


def _runtime_errors() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises: classes of its own that share no base."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    kinds = [value for value in vars(state).values() if isinstance(value, type) and issubclass(value, Exception)]
    return (*kinds, RuntimeError, ValueError)


def _reason(error: Exception) -> str:
    """ONNX Runtime's own words on one line, without the code in front."""
    text = one_line(error)
    return text.split(" : ", 3)[-1] if text.startswith("[ONNXRuntimeError]") else text
