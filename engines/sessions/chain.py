"""Versions of a model run segment by segment: what versions have in common is opened, and run, once."""

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx

from calibrators.batches import Array, TensorSpec, bind
from calibrators.encoding import Encoding
from engines.graph.cores import usable_cores
from engines.graph.model import captured
from engines.graph.operators import label
from engines.graph.plain import plain
from engines.qdq.biases import overflowing_biases_of
from engines.sessions.onnxruntime import Arithmetic, OnnxRuntimeSession, in_memory
from engines.simulation.segments import Segment, passing, segments
from engines.simulation.simulated_model import FLOAT, Layer, LayerForm, Simulation

SHARE = 0.5
"""A model of n layers has segments of about SHARE sqrt(n): fewer layers make a change cheaper to try, and each boundary
costs a copy of what is passed on."""

RECENT = 4
"""Versions that a next one may have its first segments in common with."""

KEPT = 2
"""Places per group of samples at which activations are kept: where versions of two kinds are tried in turn."""

Forms = Mapping[str, LayerForm]
Changed = frozenset[tuple[Any, ...]]
"""The layers of a segment that are no longer in float, and all that tells their forms apart."""

Path = tuple[Changed, ...]
"""A version: what is changed in each of its segments."""


@dataclass(frozen=True, slots=True)
class _State:
    """What has been computed when the first segments have run."""

    values: Mapping[str, Any]
    outputs: Mapping[str, Any]

    @property
    def size(self) -> int:
        return sum(int(value.nbytes) for part in (self.values, self.outputs) for value in part.values())


@dataclass(slots=True)
class _Group:
    """What is kept for a group of samples."""

    recent: deque[Path] = field(default_factory=lambda: deque(maxlen=RECENT))
    states: OrderedDict[Path, _State] = field(default_factory=OrderedDict)


class Chain:
    """Runs versions of a simulation's model on groups of samples.

    A version gives what `simulation.version` gives in one piece, but for the rounding of floats. The model is cut into
    segments (`engines.simulation.segments`). One that no version changes has one session for all of them, and
    activations are kept where the version at hand parts from one of the last: what lies before is not run again.
    A model that does not run in segments runs in one piece.

    Args:
        simulation: The model.
        inputs: Its inputs.
        memory: Bytes for activations and sessions that are kept, about.
    """

    def __init__(self, simulation: Simulation, inputs: Sequence[TensorSpec], *, memory: int) -> None:
        self._simulation = simulation
        self.inputs = tuple(inputs)
        # A session takes about twice its model's bytes. The float model's segments are in all versions: they must stay.
        self._sessions = _Sessions(max(memory // 8, 2 * simulation.floats.ByteSize()))
        self._most = memory // 2
        self._plans: dict[int, _Plan | None] = {}
        self._groups: dict[tuple[int, int], _Group] = {}
        self._held = 0
        self._last: tuple[Changed, OnnxRuntimeSession] | None = None

    def version(self, forms: Forms, group: int) -> "Version":
        """A version, to be run on a group of samples.

        Args:
            forms: By layer name; layers that are not named are left in float.
            group: A number of the group: the same samples each time.
        """
        return Version(self, forms, group)

    def run(self, forms: Forms, batch: Mapping[str, Array], group: int) -> dict[str, Array]:
        """The outputs of a version for a group of samples.

        Args:
            forms: As `version` has them.
            batch: Arrays by input name, as many samples as the model takes at a time.
            group: As `version` has it.

        Raises:
            DataError: The arrays do not fit the inputs.
            ModelError: The version does not run.
        """
        fed = bind(batch, self.inputs)
        floats = self._simulation.floats_for(forms)
        if id(floats) not in self._plans:
            self._plans[id(floats)] = self._planned(floats, fed)
        plan = self._plans[id(floats)]
        if plan is not None:
            try:
                return self._run(plan, forms, fed, self._groups.setdefault((id(floats), group), _Group()))
            except Exception:  # noqa: BLE001 - in one piece it runs, or fails with a reason
                self._plans[id(floats)] = None
                self._forget()
        return self._whole(forms).run(batch)

    def _whole(self, forms: Forms) -> OnnxRuntimeSession:
        """The session of a version in one piece: that of the last one is kept for the next group of samples."""
        key = _changed(forms)
        if self._last is None or self._last[0] != key:
            self._last = None
            self._last = key, OnnxRuntimeSession(self._simulation.version(forms))
        return self._last[1]

    def _planned(self, floats: onnx.ModelProto, fed: Mapping[str, Array]) -> "_Plan | None":
        if plain(floats) is not floats:
            return None
        shapes = {name: array.shape for name, array in fed.items()}
        layers = self._simulation.layers
        cut = segments(floats, layers, shapes, each=max(1, round(SHARE * len(layers) ** 0.5)))
        return _Plan(cut, layers) if len(cut) > 1 else None

    def _run(self, plan: "_Plan", forms: Forms, fed: Mapping[str, Array], group: _Group) -> dict[str, Array]:
        path = plan.path(forms)
        parts = max((_common(path, other) for other in group.recent if other != path), default=0)
        begin = next((place for place in range(parts, 0, -1) if path[:place] in group.states), 0)
        state = group.states[path[:begin]] if begin else _State(fed, {})
        for place in range(begin, len(path)):
            if place == parts > begin:
                self._keep(group, path[:place], state)
            state = self._step(plan, place, path[place], state, fed, forms)
        if path not in group.recent:
            group.recent.append(path)
        return {name: state.outputs[name] for name in plan.outputs}

    def _step(
        self, plan: "_Plan", place: int, changed: Changed, state: _State, fed: Mapping[str, Array], forms: Forms
    ) -> _State:
        segment = plan.segments[place]

        def version() -> onnx.ModelProto:
            return self._simulation.version_of(segment.model, forms, plan.quantized(segment, forms))

        session = self._sessions.get((id(segment), changed), version)
        values = {**fed, **state.values}
        found = session.run(None, {name: values[name] for name in segment.reads})
        given = dict(zip((*segment.gives, *segment.passes), found, strict=True))
        outputs = {**state.outputs, **{name: given[name] for name in segment.gives}}
        needed = plan.needed[place + 1]
        passed = dict(zip(segment.passes, found[len(segment.gives) :], strict=True))
        return _State({name: value for name, value in {**state.values, **passed}.items() if name in needed}, outputs)

    def _keep(self, group: _Group, path: Path, state: _State) -> None:
        if len(group.states) == KEPT:
            self._held -= group.states.popitem(last=False)[1].size
        if self._held + state.size <= self._most:
            group.states[path] = state
            self._held += state.size

    def _forget(self) -> None:
        self._sessions.clear()
        self._groups.clear()
        self._held = 0


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a chain's model on a group of samples."""

    chain: Chain
    forms: Forms
    group: int

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What `run` takes."""
        return self.chain.inputs

    def run(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        """As `Chain.run` has it."""
        return self.chain.run(self.forms, batch, self.group)


class _Plan:
    """Segments of a model, and what is needed behind each place."""

    def __init__(self, cut: Sequence[Segment], layers: Sequence[Layer]) -> None:
        self.segments = tuple(cut)
        self.outputs = tuple(name for segment in cut for name in segment.gives)
        self.needed = [
            frozenset(name for segment in self.segments[place:] for name in segment.reads)
            for place in range(len(cut) + 1)
        ]
        activations = {layer.name: layer.activation for layer in layers}
        self._readers = {
            name: () if name in self.outputs else _readers(name, cut, activations)
            for segment in cut
            for name in segment.passes
        }

    def path(self, forms: Forms) -> Path:
        """What a version changes in each segment."""
        changed = _changed(forms)
        return tuple(
            frozenset(
                [*(each for each in changed if each[0] in segment.layers)]
                + [(name, *_content(encoding)) for name, encoding in self.quantized(segment, forms).items()]
            )
            for segment in self.segments
        )

    def quantized(self, segment: Segment, forms: Forms) -> dict[str, Encoding]:
        """What is passed on through an encoding that all its readers have, by the name of the node that passes it on.

        They quantize it, too, and get the very same values. But ONNX Runtime computes a layer on integers where all
        that reads it is a QuantizeLinear, and else on floats, which are rounded a little differently.
        """
        found = {}
        for name in segment.passes:
            encodings = [forms.get(reader, FLOAT).activation for reader in self._readers[name]]
            first = encodings[0] if encodings else None
            if first is not None and all(_content(each) == _content(first) for each in encodings):
                found[passing(name)] = first
        return found


def _readers(name: str, cut: Sequence[Segment], reads: Mapping[str, str]) -> tuple[str, ...]:
    """The layers that read a tensor as their activation; none where anything else reads it, too."""
    nodes = [node for segment in cut for node in segment.nodes if name in (*node.input, *captured(node))]
    alone = all(reads.get(label(node)) == name and [*node.input].count(name) == 1 for node in nodes)
    return tuple(map(label, nodes)) if alone else ()


class _Sessions:
    """Sessions of segments, those that were used last within a bound of memory."""

    def __init__(self, most: int) -> None:
        self._most, self._size = most, 0
        self._open: OrderedDict[Any, tuple[Any, int]] = OrderedDict()

    def get(self, key: Any, version: Callable[[], onnx.ModelProto]) -> Any:
        """The session of that key, opened where it is not."""
        if key not in self._open:
            model = version()
            size = model.ByteSize()
            while self._open and self._size + size > self._most:
                self._size -= self._open.popitem(last=False)[1][1]
            arithmetic: Arithmetic = "literal" if overflowing_biases_of(model) else "int8"
            self._open[key] = in_memory(model, usable_cores(), arithmetic, shared=True), size
            self._size += size
        self._open.move_to_end(key)
        return self._open[key][0]

    def clear(self) -> None:
        """Let go of all."""
        self._open.clear()
        self._size = 0


def _changed(forms: Forms) -> Changed:
    return frozenset(
        (name, form.half, *_content(form.activation), *_content(form.weight))
        for name, form in forms.items()
        if form != FLOAT
    )


def _content(encoding: Encoding | None) -> tuple[Any, ...]:
    if encoding is None:
        return (None,)
    numbers = encoding.scale.tobytes(), encoding.zero_point.tobytes()
    return *numbers, encoding.grid, encoding.axis, encoding.block_size


def _common(one: Path, other: Path) -> int:
    """How many first segments two versions have in common."""
    return next((place for place, (a, b) in enumerate(zip(one, other, strict=True)) if a != b), len(one))
