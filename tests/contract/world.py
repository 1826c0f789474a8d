"""A TensorRT for whole builds and runs, with no GPU and no libraries: doubles of NVIDIA's classes that work together.

What comes from the real module is real: enumerations, loggers, calibrators, progress monitors and output allocators,
which are called through their C++ classes (`tests.contract.calls`). What TensorRT would make is a double that takes
what the real class of this version takes (`tests.contract.doubles`), and refuses what TensorRT is known to refuse.
"""

from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import pytest

from tests.contract import calls
from tests.contract.building import Building
from tests.contract.doubles import made_by, spec_of
from tests.contract.running import EngineTensor, Running

Shape = tuple[int, ...]


class World:
    """See README.md.

    Attributes:
        plan: What a build gives; None makes it fail.
        says: What the builder logs while it builds: severity and text.
        phases: Of a build, as the progress monitor hears of them: name and steps.
        parser_errors: Made with `parser_error`; with any, parsing fails.
        fast_int8, fast_fp16: What the builder says of the GPU.
        accepts_cache: Whether a calibration cache whose header fits is used.
        cache: The calibration cache that a build writes; None makes one up of the network's tensors.
        on_batch: Called with names and addresses for each batch of calibration.
        calibrated: Names of the calibrator's callbacks in the order of the calls.
        builders, networks, configs, parsers, runtimes, engines, contexts: All doubles that were made.
        profiles: Records of the optimization profiles that a config was given; `calibration_profile` alike.
        flags: Builder flags that are on.
        pools: Memory limits by pool.
        timing_cache: What the timing cache that a config was given was made of.
        network_flags: What `create_network` was called with.
        engine_tensors: What a deserialized engine has; a build fills it.
        output_shapes: From input shapes to output shapes, by name; None gives each output the first input's batch.
        compute: Runs at `execute_async_v3` with addresses and shapes by name and the stream.
        information: What an engine inspector tells.
        memory_lacks: Whether a context cannot be made.
    """

    def __init__(self, trt: ModuleType) -> None:
        self.module = trt
        self.trt: Any = trt.tensorrt  # the extension: its classes stay what they are
        self.version = str(trt.__version__)
        self.plan: bytes | None = b"a serialized engine"
        self.says: list[tuple[Any, str]] = []
        self.phases: list[tuple[str, int]] = [("Building Engine", 2), ("Tactic search", 3)]
        self.parser_errors: list[Any] = []
        self.fast_int8 = self.fast_fp16 = True
        self.accepts_cache = True
        self.cache: str | None = None
        self.on_batch: Callable[[list[str], list[int]], None] | None = None
        self.calibrated: list[str] = []
        self.builders: list[Any] = []
        self.networks: list[Any] = []
        self.configs: list[Any] = []
        self.parsers: list[Any] = []
        self.runtimes: list[Any] = []
        self.engines: list[Any] = []
        self.contexts: list[Any] = []
        self.profiles: list[Any] = []
        self.calibration_profile: Any = None
        self.flags: set[Any] = set()
        self.pools: dict[Any, int] = {}
        self.timing_cache: bytes | None = None
        self.network_flags: int | None = None
        self.engine_tensors: list[EngineTensor] = []
        self.output_shapes: Callable[[Mapping[str, Shape]], Mapping[str, Shape]] | None = None
        self.compute: Callable[[Mapping[str, int], Mapping[str, Shape], int], None] | None = None
        self.information = "{}"
        self.memory_lacks = False
        self._building = Building(self)
        self._running = Running(self)

    builder = property(lambda self: self.builders[-1])
    network = property(lambda self: self.networks[-1])
    config = property(lambda self: self.configs[-1])
    parser = property(lambda self: self.parsers[-1])
    engine = property(lambda self: self.engines[-1])
    context = property(lambda self: self.contexts[-1])

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have `tensorrt.Builder`, `OnnxParser` and `Runtime` make this world's doubles."""
        makers = {
            "Builder": self._building.builder,
            "OnnxParser": self._building.parser,
            "Runtime": self._running.runtime,
        }
        for name, maker in makers.items():
            monkeypatch.setattr(self.module, name, made_by(getattr(self.trt, name), maker))

    def parser_error(self, desc: str = "unsupported", **values: Any) -> Any:
        """A double of ParserError; what this version cannot tell of it is left out."""
        told: dict[str, Any] = {
            "code": self.trt.ErrorCode.UNSUPPORTED_NODE if hasattr(self.trt.ErrorCode, "UNSUPPORTED_NODE") else None,
            "desc": desc,
            "file": "ModelImporter.cpp",
            "line": 1,
            "func": "parseNode",
            "node": 0,
            "node_name": "",
            "node_operator": "",
            "local_function_stack": [],
            "local_function_stack_size": 0,
        } | values
        error = spec_of(self.trt.ParserError)
        for name, value in told.items():
            if hasattr(self.trt.ParserError, name):
                getattr(error, name).return_value = value
        return error

    def tensor(
        self, name: str, mode: str, shape: Sequence[int], dtype: Any, profile: Sequence[Sequence[int]] | None = None
    ) -> EngineTensor:
        """An input or an output ("input", "output") of an engine, with its smallest, best and largest shape."""
        return EngineTensor(name, mode, tuple(shape), dtype, tuple(map(tuple, profile)) if profile else None)

    def layer(self, name: str) -> Any:
        """The last network's layer of that name."""
        (found,) = [layer for layer in self._building.layers if layer.name == name]
        return found

    def log(self, logger: Any, severity: str, text: str) -> None:
        """Say something through a logger, as TensorRT does."""
        calls.log(logger, getattr(self.trt.ILogger, severity), text)
