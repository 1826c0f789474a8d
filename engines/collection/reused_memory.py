"""Activations of one sample after another in the same memory.

ONNX Runtime would take fresh memory for each output of each run, page by page. Here it writes into one large array,
which the kernel backs with large pages where it can (NumPy asks for them).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibrators.batches import Array
from engines.collection.activation_sessions import FLOATS, Fetch

ALIGNMENT = 256
"""Bytes: a multiple of every cache line and vector."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Shapes and types of what goes into a run and comes out of it.

    Attributes:
        inputs: By input name.
        outputs: By activation.
    """

    inputs: Mapping[str, tuple[tuple[int, ...], np.dtype[np.generic]]]
    outputs: Mapping[str, tuple[tuple[int, ...], np.dtype[np.generic]]]

    @classmethod
    def expected(cls, fetch: Fetch, inputs: Mapping[str, Array]) -> "Layout | None":
        """What ONNX Runtime knows before it runs these inputs; None where that is not every shape.

        Dimensions of one name are taken to be alike.
        """
        sizes: dict[object, int] = {}
        for value in fetch.session.get_inputs():
            if value.name in inputs:
                sizes.update(zip(value.shape, inputs[value.name].shape, strict=False))
        known = {value.name: value for value in fetch.session.get_outputs()}
        outputs = {}
        for name, output in fetch.names.items():
            shape = [size if isinstance(size, int) else sizes.get(size) for size in known[output].shape]
            if not shape or None in shape or known[output].type not in FLOATS:
                return None
            outputs[name] = (tuple(size for size in shape if size is not None), np.dtype(FLOATS[known[output].type]))
        return cls(_described(inputs), outputs)

    @classmethod
    def of(cls, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> "Layout":
        """That of the arrays of one run."""
        return cls(_described(inputs), _described(outputs))

    def fits(self, inputs: Mapping[str, Array]) -> bool:
        """Whether a run of these arrays may have this layout."""
        return _described(inputs) == self.inputs


class Bound:
    """Runs a session for the activations it hands out; for one thread.

    What a run gives is overwritten by the next. A run of another layout than the first one's, as where shapes depend on
    values, takes memory of its own.

    Args:
        fetch: The session.
        layout: Of a run; None leaves it to ONNX Runtime's expectation and to the first run.
    """

    def __init__(self, fetch: Fetch, layout: Layout | None = None) -> None:
        self.fetch = fetch
        self._layout: Layout | None = None
        self._arrays: dict[str, npt.NDArray[np.generic]] = {}
        self._known = layout is not None
        if layout is not None:
            self._bind(layout)

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """The activations of a sample, by name.

        Raises:
            Exception: Whatever ONNX Runtime raises.
        """
        if not self._known and (expected := Layout.expected(self.fetch, inputs)) is not None:
            self._bind(expected)
        if self._layout is not None and self._layout.fits(inputs):
            try:
                for name, array in inputs.items():
                    self._binding.bind_cpu_input(name, array)
                self.fetch.session.run_with_iobinding(self._binding)
            except Exception:  # noqa: BLE001 - of another shape after all, or a fault that the run below tells of
                self._layout = None
            else:
                return self._arrays
        names = self.fetch.names
        found = self.fetch.session.run(list(names.values()), dict(inputs)) if names else ()
        activations = dict(zip(names, found, strict=True))
        if not self._known:
            self._bind(Layout.of(inputs, activations))
        return activations

    def moved_to(self, fetch: Fetch) -> "Bound":
        """The same memory for another session of the same activations; this one is of no further use meanwhile."""
        moved = Bound(fetch)
        if self._layout is not None:
            moved._bind(self._layout, self._arrays)
        return moved

    def _bind(self, layout: Layout, arrays: dict[str, npt.NDArray[np.generic]] | None = None) -> None:
        self._known = True
        if not layout.outputs or not all(np.prod(shape) for shape, _ in layout.outputs.values()):
            return
        self._layout, self._arrays = layout, _placed(layout.outputs) if arrays is None else arrays
        self._binding = self.fetch.session.io_binding()
        for name, array in self._arrays.items():
            place = self.fetch.names[name]
            self._binding.bind_output(place, "cpu", 0, array.dtype, list(array.shape), array.ctypes.data)


def _described(arrays: Mapping[str, Array]) -> dict[str, tuple[tuple[int, ...], np.dtype[np.generic]]]:
    return {name: (array.shape, array.dtype) for name, array in arrays.items()}


def _placed(
    outputs: Mapping[str, tuple[tuple[int, ...], np.dtype[np.generic]]],
) -> dict[str, npt.NDArray[np.generic]]:
    """An array of each shape and type, all in one piece of memory."""
    sizes = {name: int(np.prod(shape)) * dtype.itemsize for name, (shape, dtype) in outputs.items()}
    memory = np.empty(sum(size + ALIGNMENT for size in sizes.values()), np.uint8)
    placed, start = {}, -memory.ctypes.data % ALIGNMENT
    for name, (shape, dtype) in outputs.items():
        placed[name] = memory[start : start + sizes[name]].view(dtype).reshape(shape)
        start += -(-sizes[name] // ALIGNMENT) * ALIGNMENT
    return placed
