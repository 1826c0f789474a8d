"""The world's builder, network, parser and config."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from tests.contract import calls
from tests.contract.calibration import calibrate
from tests.contract.doubles import Live, give, spec_of
from tests.contract.network import NetworkParts, parts_of
from tests.contract.running import EngineTensor, host_memory

if TYPE_CHECKING:
    from tests.contract.world import World


@dataclass
class Profile:
    """What an optimization profile was told: smallest, best and largest shape by input name."""

    double: Any
    shapes: dict[str, tuple[tuple[int, ...], ...]] = field(default_factory=dict)


class Building:
    """Makes the doubles that a build needs; what happens is kept in the world."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.trt = world.trt
        self.logger: Any = None
        self.parts = NetworkParts()
        self.known_profiles: list[Profile] = []

    @property
    def layers(self) -> list[Any]:
        """Of the network that was parsed last."""
        return self.parts.layers

    def builder(self, logger: Any) -> Any:
        """`trt.Builder(logger)`."""
        world, trt = self.world, self.trt
        self.logger = logger
        builder = spec_of(trt.Builder)
        give(
            builder,
            lenient=True,
            platform_has_fast_int8=Live(lambda: world.fast_int8),
            platform_has_fast_fp16=Live(lambda: world.fast_fp16),
            platform_has_tf32=True,
            num_DLA_cores=0,
            max_threads=1,
            logger=logger,
            error_recorder=None,
        )
        builder.create_network.side_effect = self._network
        builder.create_builder_config.side_effect = self._config
        builder.create_optimization_profile.side_effect = self._profile
        builder.build_serialized_network.side_effect = self._build
        builder.is_network_supported.return_value = True
        for absent in ("build_engine", "build_engine_with_config", "build_serialized_network_to_stream"):
            if hasattr(trt.Builder, absent):
                getattr(builder, absent).side_effect = AssertionError(f"the world does not know Builder.{absent}")
        world.builders.append(builder)
        return builder

    def parser(self, network: Any, logger: Any) -> Any:
        """`trt.OnnxParser(network, logger)`."""
        world = self.world
        parser = spec_of(self.trt.OnnxParser)
        errors: list[Any] = []
        give(parser, num_errors=Live(lambda: len(errors)), flags=0)
        parser.get_error.side_effect = lambda index: errors[index]
        parser.clear_errors.side_effect = errors.clear

        def parse(model: onnx.ModelProto) -> bool:
            if hasattr(self.trt.Builder, "max_batch_size") and not self._has_flag("EXPLICIT_BATCH"):
                errors.append(world.parser_error("this parser needs a network with an explicit batch dimension"))
            errors.extend(world.parser_errors)
            if not errors:
                self._fill(network, parts_of(self.trt, model))
            return not errors

        def from_bytes(model: Any, path: str | None = None) -> bool:
            try:
                return parse(onnx.load_model_from_string(bytes(model)))
            except Exception as error:  # noqa: BLE001 - protobuf has several
                errors.append(world.parser_error(f"Failed to parse ONNX model: {error}"))
                return False

        def from_file(model: str) -> bool:
            if not Path(model).is_file():
                errors.append(world.parser_error(f"Failed to open file: {model}"))
                return False
            return parse(onnx.load(model))

        parser.parse.side_effect = from_bytes
        parser.parse_from_file.side_effect = from_file
        world.parsers.append(parser)
        return parser

    def _network(self, flags: int = 0) -> Any:
        self.world.network_flags = int(flags)
        self.parts = NetworkParts()
        network = spec_of(self.trt.INetworkDefinition)
        give(network, lenient=True, has_implicit_batch_dimension=False, error_recorder=None)
        if hasattr(network, "get_flag"):
            network.get_flag.side_effect = lambda flag: bool(int(flags) >> int(flag) & 1)
        self._fill(network, self.parts)
        self.world.networks.append(network)
        return network

    def _fill(self, network: Any, parts: NetworkParts) -> None:
        self.parts = parts
        give(
            network,
            name=parts.name,
            num_inputs=Live(lambda: len(parts.inputs)),
            num_outputs=Live(lambda: len(parts.outputs)),
            num_layers=Live(lambda: len(parts.layers)),
        )
        for method, found in (("get_input", parts.inputs), ("get_output", parts.outputs), ("get_layer", parts.layers)):
            getattr(network, method).side_effect = lambda index, found=found: (
                found[index] if 0 <= index < len(found) else None
            )

    def _profile(self) -> Any:
        double = spec_of(self.trt.IOptimizationProfile)
        profile = Profile(double)

        def set_shape(input: str, min: Any, opt: Any, max: Any) -> None:
            sizes = tuple(map(tuple, (min, opt, max)))
            ranks = {len(shape) for shape in sizes}
            if len(ranks) > 1 or any(not a <= b <= c for a, b, c in zip(*sizes, strict=True)):
                raise ValueError("Shape provided for min is inconsistent with other shapes.")
            profile.shapes[input] = sizes

        double.set_shape.side_effect = set_shape
        double.get_shape.side_effect = lambda input: [self.trt.Dims(shape) for shape in profile.shapes.get(input, ())]
        self.known_profiles.append(profile)
        return double

    def _config(self) -> Any:
        world, trt = self.world, self.trt
        config = spec_of(trt.IBuilderConfig)
        world.profiles, world.calibration_profile, world.flags, world.pools = [], None, set(), {}
        timing: list[Any] = [None]

        def bits() -> int:
            return sum(1 << int(flag) for flag in world.flags)

        def set_bits(value: int) -> None:
            world.flags = {flag for flag in trt.BuilderFlag.__members__.values() if value >> int(flag) & 1}

        give(
            config,
            lenient=True,
            flags=Live(bits, set_bits),
            int8_calibrator=None,
            progress_monitor=None,
            profiling_verbosity=trt.ProfilingVerbosity.LAYER_NAMES_ONLY,
            builder_optimization_level=3,
            hardware_compatibility_level=trt.HardwareCompatibilityLevel.NONE,
            num_optimization_profiles=Live(lambda: len(world.profiles)),
            avg_timing_iterations=1,
            max_aux_streams=-1,
            quantization_flags=0,
        )
        config.set_flag.side_effect = lambda flag: set_bits(bits() | 1 << int(flag))
        config.clear_flag.side_effect = lambda flag: set_bits(bits() & ~(1 << int(flag)))
        config.get_flag.side_effect = lambda flag: flag in world.flags
        config.set_memory_pool_limit.side_effect = lambda pool, pool_size: world.pools.update({pool: pool_size})
        config.get_memory_pool_limit.side_effect = lambda pool: world.pools.get(pool, 0)

        def add_profile(profile: Any) -> int:
            world.profiles.append(self._known(profile))
            return len(world.profiles) - 1

        def set_calibration_profile(profile: Any) -> bool:
            world.calibration_profile = self._known(profile)
            return True

        def set_timing_cache(cache: Any, ignore_mismatch: bool) -> bool:
            timing[0] = cache
            world.timing_cache = bytes(cache.serialize())
            return True

        config.add_optimization_profile.side_effect = add_profile
        if hasattr(config, "set_calibration_profile"):
            config.set_calibration_profile.side_effect = set_calibration_profile
            config.get_calibration_profile.side_effect = lambda: getattr(world.calibration_profile, "double", None)
        config.create_timing_cache.side_effect = self._timing_cache
        config.set_timing_cache.side_effect = set_timing_cache
        config.get_timing_cache.side_effect = lambda: timing[0]
        world.configs.append(config)
        return config

    def _timing_cache(self, serialized_timing_cache: Any) -> Any:
        """A timing cache, to which each build adds an entry."""
        before, count = bytes(serialized_timing_cache), self._builds()
        cache = spec_of(self.trt.ITimingCache)
        cache.serialize.side_effect = lambda: host_memory(
            self.trt, before + b" and a tactic" * (self._builds() - count)
        )
        return cache

    def _builds(self) -> int:
        return sum(builder.build_serialized_network.call_count for builder in self.world.builders)

    def _known(self, double: Any) -> Profile:
        (profile,) = [profile for profile in self.known_profiles if profile.double is double]
        return profile

    def _has_flag(self, name: str) -> bool:
        flag = getattr(self.trt.NetworkDefinitionCreationFlag, name, None)
        return flag is not None and bool((self.world.network_flags or 0) >> int(flag) & 1)

    def _build(self, network: Any, config: Any, kernel_text: Any = None) -> Any:
        world = self.world
        for severity, text in world.says:
            calls.log(self.logger, severity, text)
        if refusal := self._refusal(config):
            world.log(self.logger, "ERROR", refusal)
            return None
        calibrator = getattr(config, "int8_calibrator", None)
        if calibrator is not None and self._is_on("INT8") and not self.parts.quantized:
            if self.parts.dynamic and world.calibration_profile is None:
                world.log(self.logger, "WARNING", "Calibration Profile is not defined. Calibrating with Profile 0")
            if not calibrate(world, self.logger, calibrator, self.parts):
                return None
        if not self._monitored(getattr(config, "progress_monitor", None)):
            return None
        if world.plan is None:
            return None
        shapes = world.profiles[0].shapes if world.profiles else {}
        world.engine_tensors = [
            EngineTensor(tensor.name, mode, tuple(tensor.shape), tensor.dtype, shapes.get(tensor.name))
            for mode, tensors in (("input", self.parts.inputs), ("output", self.parts.outputs))
            for tensor in tensors
        ]
        return host_memory(self.trt, world.plan)

    def _refusal(self, config: Any) -> str | None:
        """What TensorRT does not build."""
        world = self.world
        missing = [
            tensor.name
            for tensor in self.parts.inputs
            if -1 in tuple(tensor.shape) and not any(tensor.name in profile.shapes for profile in world.profiles)
        ]
        if missing:
            return f"Network has dynamic or shape inputs, but no optimization profile has been defined: {missing}"
        set_here = [name for name in ("INT8", "FP16", "BF16", "FP8") if self._is_on(name)]
        if self._has_flag("STRONGLY_TYPED") and set_here:
            return f"precision flags cannot be set for a strongly typed network: {set_here}"
        if not self._is_on("INT8") or self.parts.quantized or config.int8_calibrator is not None:
            return None
        if any(tensor.dynamic_range is None for tensor in self.parts.inputs):
            return "Calibration failure occurred with no scaling factors detected"
        return None

    def _is_on(self, name: str) -> bool:
        flag = getattr(self.trt.BuilderFlag, name, None)
        return flag is not None and flag in self.world.flags

    def _monitored(self, monitor: Any) -> bool:
        """Tell the monitor of the phases; False where it stops the build."""
        if monitor is None:
            return True
        parent: str | None = None
        goes_on = True
        for name, steps in self.world.phases:
            calls.phase_start(monitor, name, parent, steps)
            for step in range(steps):
                goes_on = goes_on and calls.step_complete(monitor, name, step)
            calls.phase_finish(monitor, name)
            parent = name
        return goes_on
