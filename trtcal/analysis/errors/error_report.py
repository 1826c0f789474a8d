"""The error of each layer of a model in INT8, against the float model: one pass over images, by any number of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx

from calibrators.batches import Array, Batch, bind
from calibrators.encoding import Encoding
from calibrators.errors import DataError
from calibrators.statistics.file import Statistics
from calibrators.tabular import Row, Tabular
from engines.graph.data_sizes import data_sized_outputs
from engines.graph.model import input_specs
from engines.graph.operators import ADDITIONS, CONVOLUTIONS, WEIGHTED
from engines.sessions.onnxruntime import OnnxRuntimeSession
from engines.simulation.simulated_model import Layer, LayerForm, Simulation
from trtcal.analysis.errors.fidelity import Channels, Fidelity, GridUse, Values, quantized
from trtcal.analysis.errors.layer_error import LayerError
from trtcal.analysis.errors.suspicion import Suspicion, suspicions
from trtcal.analysis.errors.weight_errors import WeightError, weight_error
from trtcal.data.images import ImageLoader
from trtcal.measure.groups import Singles, run_group
from trtcal.measure.measures import Score, score
from trtcal.tasks.seeking import Seeking
from trtcal.tasks.task import Task, task_given


@dataclass(frozen=True, slots=True)
class ErrorReport(Tabular):
    """The errors of a model's layers.

    Attributes:
        layers: The quantized ones, in topological order.
        suspicions: What is wrong, or looks so, in the same order.
        score: Of the INT8 model, against the float model.
        reference: Of the float model.
        unlike: Layers of which what they read or give has another size than in the float model in some samples.
    """

    layers: tuple[LayerError, ...]
    suspicions: tuple[Suspicion, ...]
    score: Score
    reference: Score
    unlike: tuple[str, ...] = ()

    def rows(self) -> list[Row]:
        """A row a layer, with what is suspicious about it."""
        reasons: dict[str, list[str]] = {}
        for each in self.suspicions:
            for layer in each.layers:
                reasons.setdefault(layer, []).append(each.reason)
        told = {name: ", ".join(dict.fromkeys(found)) for name, found in reasons.items()}
        return [{**each.to_row(), "suspicious": told.get(each.layer.name, "")} for each in self.layers]

    def to_dict(self) -> dict[str, Any]:
        """For JSON; NaN and infinity are as they are."""
        return {
            "layers": [each.to_dict() for each in self.layers],
            "suspicions": [each.to_dict() for each in self.suspicions],
            "other_size": list(self.unlike),
        }


def errors_by_layer(
    simulation: Simulation,
    forms: Mapping[str, LayerForm],
    images: ImageLoader,
    *,
    statistics: Statistics | None = None,
    labelled: bool = True,
    task: Task | None = None,
    progress: Callable[[int], None] | None = None,
) -> ErrorReport:
    """Compare each layer of a model in INT8 with the float model's.

    Both run beside each other, one sample at a time (a model of fixed batch size n: n at a time), so that the result
    does not depend on how samples are batched, nor the memory on their number.

    Args:
        simulation: The model.
        forms: Of its layers, by name; those with an encoding of their input are reported.
        images: What to run.
        statistics: Of the calibration, which tell of outliers; None tells nothing of these.
        labelled: Whether the images' labels count, where they have some.
        task: What the model is for; None for `Task()`.
        progress: Is told the number of samples done since the last call.

    Raises:
        DataError: No layer is quantized, or the images do not fit the model.
        ModelError: A model does not run.
    """
    layers = [layer for layer in simulation.layers if _encoding(forms, layer) is not None]
    if not layers:
        raise DataError("no layer is quantized, so there is no error to report: quantize one at least")
    tensors = list(dict.fromkeys(name for layer in layers for name in (layer.activation, layer.output)))
    found = _Measured(layers, forms)
    inputs = {value.name for value in simulation.floats.graph.input}
    fetched = [name for name in tensors if name not in inputs]
    pair = [simulation.version(each, outputs=fetched) for each in ({}, forms)]
    outputs = [value.name for value in simulation.floats.graph.output]
    reference, whole = Score(), Score()
    sized = data_sized_outputs(simulation.floats)
    images = images.for_model(input_specs(simulation.floats))
    seeking = Seeking(task_given(task), images, sized)
    for batch, floats, integers in _side_by_side(pair, images, labelled=labelled and seeking.classifies):
        found.add(floats, integers)
        given, wanted = ({name: each[name] for name in outputs} for each in (integers, floats))
        theirs = seeking.sought(wanted, batch)
        evidence = seeking.evidence(batch, theirs)
        reference += score(wanted, labels=batch.labels, samples=batch.size, sized=sized, task=evidence)
        evidence = seeking.evidence(batch, seeking.sought(given, batch), theirs)
        measured: dict[str, Any] = {"labels": batch.labels, "reference": wanted, "samples": batch.size, "sized": sized}
        whole += score(given, **measured, parts=seeking.parts, task=evidence)
        if progress is not None:
            progress(batch.size)
    weights = {
        layer.name: weight_error(layer, simulation.weight(layer.name), encoding)
        for layer in layers
        if (encoding := forms[layer.name].weight) is not None
    }
    errors = tuple(found.error(layer, weights.get(layer.name)) for layer in layers)
    unlike = tuple(each.layer.name for each in errors if each.arrives.unlike or each.gives.unlike)
    return ErrorReport(errors, suspicions(errors, statistics), whole, reference, unlike)


def _encoding(forms: Mapping[str, LayerForm], layer: Layer) -> Encoding | None:
    return forms[layer.name].activation if layer.name in forms else None


class _Measured:
    """Sums over samples: of each input and encoding once, however many layers read it."""

    def __init__(self, layers: list[Layer], forms: Mapping[str, LayerForm]) -> None:
        self._inputs: list[tuple[str, Encoding, int | None]] = []
        self._place: dict[str, int] = {}
        for layer in layers:
            encoding = _encoding(forms, layer)
            assert encoding is not None
            wanted = layer.activation, encoding, _channel_axis(layer)
            if wanted not in self._inputs:
                self._inputs.append(wanted)
            self._place[layer.name] = self._inputs.index(wanted)
        self._outputs = dict.fromkeys([layer.output for layer in layers], Fidelity())
        self._arrives = dict.fromkeys([layer.activation for layer in layers], Fidelity())
        self._rounded = [Fidelity()] * len(self._inputs)
        self._reads = [Fidelity()] * len(self._inputs)
        self._use = [GridUse.nothing(encoding) for _, encoding, _ in self._inputs]
        self._channels: list[Channels | None] = [None] * len(self._inputs)

    def add(self, floats: Mapping[str, Values], integers: Mapping[str, Values]) -> None:
        """Count the tensors of some samples, in the float and the INT8 model."""
        for sums in (self._arrives, self._outputs):
            for name in sums:
                sums[name] += Fidelity.of(floats[name], integers[name])
        for place, (name, encoding, axis) in enumerate(self._inputs):
            back, use, channels = quantized(integers[name], floats[name], encoding, axis)
            self._rounded[place] += Fidelity.of(integers[name], back)
            self._reads[place] += Fidelity.of(floats[name], back)
            self._use[place] += use
            known = self._channels[place]
            self._channels[place] = channels if known is None else known + channels

    def error(self, layer: Layer, weight: WeightError | None) -> LayerError:
        """What was measured of a layer."""
        place = self._place[layer.name]
        channels = self._channels[place]
        assert channels is not None
        return LayerError(
            layer,
            arrives=self._arrives[layer.activation],
            rounded=self._rounded[place],
            reads=self._reads[place],
            gives=self._outputs[layer.output],
            use=self._use[place],
            channels=channels,
            weight=weight,
        )


def _channel_axis(layer: Layer) -> int | None:
    """The axis of the channels of a layer's input; None where it is not known."""
    if layer.type in ADDITIONS | CONVOLUTIONS:
        return 1
    if layer.type not in WEIGHTED:
        return None
    return -2 if layer.left else -1


def _side_by_side(
    models: Sequence[onnx.ModelProto], images: ImageLoader, *, labelled: bool
) -> Iterator[tuple[Batch, Mapping[str, Values], Mapping[str, Values]]]:
    """Samples, and the tensors that the float and the INT8 model give for them."""
    floats, integers = map(OnnxRuntimeSession, models)
    with floats, integers:
        size = floats.fixed_batch or 1
        for batch in Singles(images.for_model(floats.inputs), size, labelled=labelled):
            fed = bind(batch, floats.inputs)
            expected, found = (_tensors(session, fed, batch.size, size) for session in (floats, integers))
            yield batch, expected, found


def _tensors(session: OnnxRuntimeSession, fed: Mapping[str, Array], count: int, size: int) -> dict[str, Any]:
    """The tensors that a session gives for `count` samples, and those it is fed with."""
    return {**fed, **run_group(session, fed, count=count, size=size, sized=session.data_sized)}
