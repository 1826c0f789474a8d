"""Simulated quantization of an ONNX model on any machine, after AIMET's workflow: what INT8, or fewer bits, would do.

Construct, compute encodings, run as a session, export.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace

import onnx

from calibrators.batches import Array, Batches, TensorSpec
from calibrators.codecs.encodings import Encodings
from calibrators.encoding import Encoding
from calibrators.errors import CacheMismatchError, ConfigError, DataError, ModelError, RangeError
from calibrators.grid import Grid
from calibrators.statistics.file import Statistics
from engines.collection.collect import collect
from engines.collection.observed_session import observed
from engines.graph.model import ModelSource, files_of
from engines.sessions.closing import Closing
from engines.sessions.onnxruntime import OnnxRuntimeSession, Session
from engines.simulation.simulated_model import Layer, Simulation
from trtcal.config.settings import QuantConfig
from trtcal.pipeline import require_same_model
from trtcal.quantsim.aimet import SCHEME, chosen_bits, chosen_scheme, feed_of, require_runs
from trtcal.quantsim.files import Contents, Exported, Version, write
from trtcal.quantsim.given_encodings import Source, Tensors
from trtcal.quantsim.layers import Formed, SimulatedLayers, arithmetic_of, by_tensor, method_of, settled

Feed = Batches | Statistics | Callable[[Session], object]
"""What encodings are computed from."""


_LITERAL = (
    "ONNX Runtime rounds biases between Q/DQ nodes unless the session option session.disable_quant_qdq is 1: with it "
    "the Q/DQ model gives the simulation's results"
)


class QuantSim(Closing):
    """A float model that runs as if its layers were quantized.

    It is a session (`engines.sessions.onnxruntime.Session`): it stands wherever an FP32 model or an engine does, as in
    `trtcal.evaluate`. What it runs is the Q/DQ model that `export` writes, in ONNX Runtime: its results are that
    model's, to the last bit in the same session.

    Unless told otherwise the grids are TensorRT's: activations signed and symmetric per tensor, weights symmetric per
    output channel. Statistics are kept, so bits and frozen encodings may be changed without running anything again.

    Args:
        model: A float model, as a path or in memory. It is read once.
        scheme: How ranges of activations are chosen: "tf" (the same as "minmax"), "tf_enhanced" ("sqnr"), "percentile"
            or "percentile:99.9", or any other range method (`calibrators.ranges.METHODS`).
        default_output_bw: Bits of activations, 2 to 16, in place of the configuration's default; None for that, which
            is 8 unless set.
        default_param_bw: Likewise, of weights.
        config: Settings by layer, or a TOML file of them: method, bits, symmetry, granularity, precision. Layers in
            "fp16" have their operands rounded to FP16; "fp32" and "float" are left alone.
        threads: Of the session, as `OnnxRuntimeSession` has them.
        quant_scheme: AIMET's word for `scheme`: a text, or a member of its enumeration.
        default_activation_bw: AIMET's other word for `default_output_bw`.
        activation_type: Its type, such as "int8", in the place of `default_output_bw`.
        param_type: Likewise, of `default_param_bw`.
        dummy_input: An example of the inputs, as aimet-onnx takes one. The float model is run on it once, so that what
            does not fit is told here.

    Attributes:
        inputs: Of the model.
        outputs: Of the model.
        data_sized: The outputs whose size depends on the data -> the label of the node that decides it.
        layers: What can be quantized, in topological order.
        notes: What a user should know of model and configuration, one line each.

    Raises:
        ModelError: The model cannot be read or run, or has nothing to quantize.
        DataError: The example does not fit the inputs.
        TrtcalError: There is no such scheme, width or configuration.
    """

    def __init__(
        self,
        model: ModelSource,
        scheme: str = SCHEME,
        *,
        default_output_bw: int | None = None,
        default_param_bw: int | None = None,
        config: QuantConfig | str | os.PathLike[str] | None = None,
        threads: int | None = None,
        quant_scheme: object = None,
        default_activation_bw: int | None = None,
        activation_type: object = None,
        param_type: object = None,
        dummy_input: object = None,
    ) -> None:
        chosen = _configuration(config)
        self._method = method_of(chosen_scheme(scheme, quant_scheme))
        self._model = model
        self._threads = threads
        self._simulation = Simulation(model)
        outputs = {"default_output_bw": default_output_bw, "default_activation_bw": default_activation_bw}
        settings, self.notes = settled(
            self._simulation.layers,
            chosen,
            self._method,
            output_bits=chosen_bits(outputs, ("activation_type", activation_type)),
            weight_bits=chosen_bits({"default_param_bw": default_param_bw}, ("param_type", param_type)),
        )
        self._layers = SimulatedLayers(self._simulation, settings)
        if not self._layers.integer:
            raise ModelError("every layer is to stay in float, and nothing to be simulated: quantize one at least")
        self._tensors = Tensors(model, self._simulation)
        self._given: dict[str, Encoding | None] = {}
        self._frozen: set[str] = set()
        self._bits: dict[str, int] = {}
        self._statistics: Statistics | None = None
        self._formed: Formed | None = None
        self._session: OnnxRuntimeSession | None = None
        self._closed = False
        with OnnxRuntimeSession(self._simulation.floats, threads=threads) as session:
            self.inputs: tuple[TensorSpec, ...] = session.inputs
            self.outputs: tuple[TensorSpec, ...] = session.outputs
            self.data_sized = session.data_sized
            if dummy_input is not None:
                require_runs(session, dummy_input)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """What can be quantized, in topological order."""
        return self._simulation.layers

    @property
    def left_float(self) -> Mapping[str, str]:
        """The label of each weighted layer or residual addition that is not quantized -> why."""
        return {**self._simulation.left, **self._forms.left}

    @property
    def encodings(self) -> Encodings:
        """Of the activations and weights that are quantized, by name.

        Raises:
            ModelError: An activation has none yet, or layers read one through different encodings.
        """
        return by_tensor(self.layers, self._complete().forms)

    @property
    def frozen(self) -> frozenset[str]:
        """Names of the tensors whose encodings stay as they are."""
        return frozenset(self._frozen)

    def compute_encodings(
        self,
        data: Feed | None = None,
        forward_pass_callback_args: object = ...,
        *,
        progress: Callable[[int], None] | None = None,
        forward_pass_callback: Callable[..., object] | None = None,
    ) -> None:
        """Find the encodings of all activations that are not frozen; unfrozen ones from files are dropped.

        Args:
            data: An `ImageLoader`, or any iterable of arrays by input name; or a function that is given a session of
                the float model and runs batches through it, such as an evaluation; or statistics of the model's
                activations from `trtcal.collect`. The function may call its session as ours, ``run(batch)``, or as ONNX
                Runtime's, ``run(None, feed)``.
            forward_pass_callback_args: What the function is given after the session, if that is wanted.
            progress: Called with the number of samples done since the last call.
            forward_pass_callback: Such a function, in the place of data, by AIMET's word for it.

        Raises:
            DataError: There is no sample, one does not fit the model, or an activation is NaN or infinite; or there are
                data and a callback, or neither.
            CacheMismatchError: The statistics are another model's.
        """
        statistics = self._gathered(feed_of(data, forward_pass_callback, forward_pass_callback_args), progress)
        wanted = (layer.activation for layer in self._layers.integer if layer.activation not in self._frozen)
        absent = [name for name in wanted if name not in statistics]
        if absent:
            raise CacheMismatchError(
                f"the statistics have no tensor {absent[0]!r}, which is to be quantized: collect them from this model"
            )
        self._statistics = statistics
        self._given = {name: value for name, value in self._given.items() if name in self._frozen}
        self._changed()

    def run(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs of the quantized model.

        Args:
            batch: Arrays by input name, samples on the first axis.

        Raises:
            DataError: The arrays do not fit the inputs.
            ModelError: There are no encodings yet, or the simulation is closed.
        """
        if self._closed:
            raise ModelError("the simulation is closed: construct another")
        if self._session is None:
            version, arithmetic = self._version(), arithmetic_of(self._complete().forms.values())
            self._session = OnnxRuntimeSession(version, threads=self._threads, arithmetic=arithmetic)
        return self._session.run(batch)

    def close(self) -> None:
        """Let go of the session; the simulation cannot run afterwards."""
        self._changed()
        self._closed = True

    def set_encoding(self, name: str, encoding: Encoding | None) -> None:
        """Give an activation or a weight an encoding, until encodings are computed again.

        Args:
            name: Of an input of a layer, or of a weight.
            encoding: What it goes through; None leaves it in float, and the layers that read it if it is an activation.

        Raises:
            ModelError: There is no such tensor, it is not quantized or is frozen, or the encoding does not fit it.
        """
        self._require_not_frozen(name)
        self._give({name: self._tensors.fitted(name, encoding)}, frozen=False)

    def set_and_freeze(self, name: str, encoding: Encoding | None) -> None:
        """Give an activation or a weight an encoding that stays, whatever is computed; as `set_encoding`.

        Raises:
            ModelError: There is no such tensor, it is not quantized, or the encoding does not fit it.
        """
        self._give({name: self._tensors.fitted(name, encoding)}, frozen=True)

    def freeze(self, *names: str) -> None:
        """Keep encodings as they are now, whatever is computed later: of some tensors, or of all.

        Raises:
            ModelError: One has no encoding yet or several, or there is no such tensor.
        """
        for name in names:
            self._tensors.require(name)
        found = by_tensor(self.layers, (self._forms if names else self._complete()).forms)
        every = {**self._given, **found.activations, **found.weights}
        chosen = names or tuple(every)
        absent = [name for name in chosen if name not in every]
        if absent:
            raise ModelError(
                f"{absent[0]} has no encoding to freeze: compute_encodings gives it one, or set_and_freeze"
            )
        self._give({name: every[name] for name in chosen}, frozen=True)

    def unfreeze(self, *names: str) -> None:
        """Let encodings be computed again: of some tensors, or of all."""
        for name in names:
            self._tensors.require(name)
        for name in names or tuple(self._frozen):
            self._frozen.discard(name)
            self._given.pop(name, None)
        self._changed()

    def set_bitwidth(self, name: str, bits: int) -> None:
        """Quantize an activation or a weight to so many bits, 2 to 16; its range is chosen anew.

        Raises:
            ModelError: There is no such tensor, or it is not quantized or frozen.
            RangeError: There are no grids of so many bits.
        """
        self._tensors.require(name)
        self._require_not_frozen(name)
        if not isinstance(bits, int) or isinstance(bits, bool):
            raise RangeError(f"bits are a whole number from 2 to 16, not {bits!r}")
        Grid(bits)  # refuses those that no grid has
        self._bits[name] = bits
        self._given.pop(name, None)
        self._changed()

    def load_encodings(self, source: Source, *, frozen: bool = True) -> tuple[str, ...]:
        """Take encodings from a file of any format that `trtcal cache convert` knows, a Q/DQ model, cache or mapping.

        Args:
            source: A path; `calibrators.codecs.encodings.Encodings`; a `CalibrationCache`; or encodings by name (None
                leaves a tensor in float, a number is the scale of an INT8 one).
            frozen: Keep them whatever is computed later.

        Returns:
            What was not taken as it is, one line each.

        Raises:
            CacheMismatchError: A name is not the model's; the message names the nearest one.
            TrtcalError: The source cannot be read, or an encoding does not fit its tensor.
        """
        given = self._tensors.given(source)
        self._give(given.encodings, frozen=frozen)
        return given.notes

    def export(
        self,
        folder: str | os.PathLike[str],
        prefix: str,
        *,
        version: Version = "1.0.0",
        qdq: bool = False,
        cache: bool = False,
    ) -> Exported:
        """Write the model without quantization nodes and its encodings, all files or none.

        ``prefix.onnx`` is the model as quantization starts from it: functions inlined, constants and batch
        normalization folded. ``prefix.encodings`` names its tensors and initializers.

        Args:
            folder: Where to; it is made if it does not exist.
            prefix: What the files' names begin with.
            version: Of AIMET's encodings.
            qdq: Write ``prefix.qdq.onnx``, too: the model that was simulated, with Q/DQ nodes, and its side-car. Where
                grids are others than TensorRT's INT8, ONNX Runtime gives the simulation's results with its session
                option ``session.disable_quant_qdq`` set to 1 alone: else it rounds biases, which TensorRT does not.
            cache: Write ``prefix.cache``, too: TensorRT's calibration cache of the activations, and its side-car.

        Returns:
            The files, and what they cannot hold.

        Raises:
            ModelError: An activation has no encoding yet, or layers read one through different encodings.
            CacheError: A cache cannot hold an encoding, for being asymmetric or of other bits.
            OutputError: A file cannot be written.
        """
        contents = Contents(
            model=self._simulation.floats,
            encodings=self.encodings,
            quantized=self._version() if qdq else None,
            left_float=self.left_float,
            method=self._method,
            settings=self._layers.settings,
            statistics=self._statistics,
        )
        written = write(contents, folder, prefix, version=version, cache=cache, inputs=files_of(self._model))
        if qdq and arithmetic_of(self._complete().forms.values()) == "literal":
            return replace(written, notes=(*written.notes, _LITERAL))
        return written

    @property
    def _forms(self) -> Formed:
        if self._formed is None:
            self._formed = self._layers.formed(self._statistics, given=self._given, bits=self._bits)
        return self._formed

    def _complete(self) -> Formed:
        formed = self._forms
        if formed.missing:
            raise ModelError(
                f"{len(formed.missing)} activation(s), such as {formed.missing[0]}, have no encoding yet: call "
                "compute_encodings first, or load_encodings"
            )
        return formed

    def _version(self) -> onnx.ModelProto:
        forms = self._complete().forms
        if all(form.activation is None and form.weight is None for form in forms.values()):
            raise ModelError("every layer stays in float, and nothing is simulated: give one an encoding at least")
        return self._simulation.version(forms)

    def _gathered(self, data: Feed, progress: Callable[[int], None] | None) -> Statistics:
        if isinstance(data, Statistics):
            require_same_model(data, self._model)
            return data
        if hasattr(data, "__iter__") or hasattr(data, "__getitem__") or isinstance(data, (str, os.PathLike)):
            return collect(self._model, data, tensors="quantizable", progress=progress)
        if callable(data):
            return observed(self._model, data, progress=progress)
        raise DataError(
            f"encodings cannot be computed from a {type(data).__name__}: give batches, a function that runs some, or "
            "statistics"
        )

    def _give(self, encodings: Mapping[str, Encoding | None], *, frozen: bool) -> None:
        self._given.update(encodings)
        self._frozen = self._frozen | encodings.keys() if frozen else self._frozen - encodings.keys()
        self._changed()

    def _require_not_frozen(self, name: str) -> None:
        if name in self._frozen:
            raise ModelError(f"the encoding of {name} is frozen: call unfreeze({name!r}) first")

    def _changed(self) -> None:
        self._formed = None
        if self._session is not None:
            self._session.close()
            self._session = None


def _configuration(config: QuantConfig | str | os.PathLike[str] | None) -> QuantConfig:
    if config is None:
        return QuantConfig()
    if isinstance(config, QuantConfig):
        return config
    if isinstance(config, (str, os.PathLike)):
        return QuantConfig.load(config)
    raise ConfigError(f"config is a QuantConfig or the path of a TOML file, not a {type(config).__name__}")
