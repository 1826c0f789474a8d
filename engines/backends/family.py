"""What the backends share: how a builder of TensorRT is given a model and builds it, and how Ctrl-C stops it."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engines.backends import settings
from engines.backends.backend import NO_OPTIONS, BuildOptions, Calibration, Log, NumberType, Plan
from engines.backends.build_monitor import BUILDING, interruptible, monitor_of
from engines.backends.logger import listening
from engines.backends.network import add_profile, bound, inputs_of, let_attention_decompose, outputs_of
from engines.backends.parsing import parse
from engines.backends.shapes import Profile

if TYPE_CHECKING:
    import onnx

    from calibrators.cache.text import CalibrationCache


@dataclass(frozen=True, slots=True)
class Job:
    """What one build is asked for, as `Backend.build` has it.

    Attributes:
        stop: Is set when the build is to end without an engine.
    """

    compute_capabilities: tuple[str, ...]
    options: BuildOptions
    types: frozenset[NumberType]
    calibration: Calibration | None
    log: Log
    stop: threading.Event


class Family(ABC):
    """A family of TensorRT whose module is `_trt`; what is its own, it says in the methods below `build`.

    See `engines.backends.backend.Backend` for the attributes.
    """

    name: str
    label: str
    _trt: Any

    def build(
        self,
        model: "onnx.ModelProto",
        *,
        profiles: Mapping[str, Profile],
        compute_capabilities: tuple[str, ...] = (),
        options: BuildOptions = NO_OPTIONS,
        types: frozenset[NumberType] = frozenset(),
        calibration: Calibration | None = None,
        log: Log,
        progress: Callable[[int], None] | None = None,
        phase: Callable[[str], None] | None = None,
    ) -> Plan:
        """See `Backend.build`."""
        trt, stop = self._trt, threading.Event()
        job = Job(compute_capabilities, options, types, calibration, log, stop)

        def work() -> Plan:
            with BUILDING, listening(trt, log) as logger:
                builder = self._builder(logger, log)
                network = builder.create_network(self._network_flags())
                parse(trt.OnnxParser(network, logger), model, label=self.label)
                let_attention_decompose(trt, network)
                config = builder.create_builder_config()
                config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
                monitor = monitor_of(trt, progress=progress, phase=phase, stop=stop)
                if monitor is not None:
                    config.progress_monitor = monitor
                settings.apply(trt, config, options)
                self._configure(network, config, job)
                add_profile(builder, config, network, profiles, label=self.label)
                data, cache = self._serialized(builder, network, config, job)
                inputs, outputs = (tuple(map(bound, of(network))) for of in (inputs_of, outputs_of))
                return Plan(bytes(data), inputs, outputs, cache)

        def interrupt() -> None:
            stop.set()
            if calibration is not None:
                calibration.calibrator.stop(KeyboardInterrupt())

        return interruptible(work, interrupt, name=self.name)

    def _builder(self, logger: Any, log: Log) -> Any:
        """TensorRT's builder."""
        return self._trt.Builder(logger)

    def _network_flags(self) -> int:
        """Flags of the network."""
        return 0

    @abstractmethod
    def _configure(self, network: Any, config: Any, job: Job) -> None:
        """Tell the builder's configuration what only this family knows."""

    @abstractmethod
    def _serialized(self, builder: Any, network: Any, config: Any, job: Job) -> "tuple[Any, CalibrationCache | None]":
        """The engine, and the cache that it was calibrated with.

        Raises:
            TrtcalError: The builder gave no engine.
        """
