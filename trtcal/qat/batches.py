"""Which axis of an activation carries the samples, so that observers count sample by sample."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn


class SampleAxes:
    """A hook before a model's forward, which tells its observers what a batch looks like.

    Before the first batch of two samples or more the model is run on the first sample alone: an activation's axis of
    samples is the one that is longer in the batch, by the number of samples. (A model that reshapes to a fixed batch
    cannot be run so: then it is the first axis that is this long or a multiple of it.)

    Attributes:
        size: Samples in the batch that runs; where its inputs do not agree on one, it counts as a single sample. None
            without a model.
        alone: Whether the sample that runs is that first one alone: it is not to be counted.
        run: Counts the runs, so that an observer knows when a new one begins.
    """

    def __init__(self) -> None:
        self.size: int | None = None
        self.alone = False
        self.run = 0
        self._known = False

    def __call__(self, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Note the batch that is about to run."""
        if self.alone:
            return
        sizes = {len(each) if each.dim() else None for each in _tensors((args, kwargs))}
        self.size = (sizes.pop() if len(sizes) == 1 else None) or 1
        self.run += 1
        if not self._known and self.size > 1:
            self._known = True
            self._run_one(model, args, kwargs)
            self.run += 1

    def _run_one(self, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self.alone = True
        try:
            with torch.no_grad():
                model(*_first((*args,)), **_first(dict(kwargs)))
        except Exception:  # noqa: BLE001  # whatever a fixed batch raises: the real run tells what is really wrong
            pass
        finally:
            self.alone = False

    def split(self, x: Tensor, single: tuple[int, ...] | None) -> tuple[Tensor, ...]:
        """An activation's samples.

        Args:
            x: The activation.
            single: Its shape for one sample, if that is known.
        """
        axis = self._axis(tuple(x.shape), single)
        if axis is None:
            return (x,)
        count = len(x) if self.size is None else self.size
        samples: tuple[Tensor, ...] = torch.tensor_split(x, count, dim=axis)
        return samples

    def _axis(self, shape: tuple[int, ...], single: tuple[int, ...] | None) -> int | None:
        size = self.size
        if not shape or (size is not None and size <= 1):
            return None
        if size is None:
            return 0
        if single is not None and len(single) == len(shape):
            grown = [axis for axis, (many, one) in enumerate(zip(shape, single, strict=True)) if many != one]
            return grown[0] if len(grown) == 1 and shape[grown[0]] == size * single[grown[0]] else None
        exact = [axis for axis, length in enumerate(shape) if length == size]
        multiple = [axis for axis, length in enumerate(shape) if length % size == 0]
        return next(iter((*exact, *multiple)), None)


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, Mapping):
        for each in values.values():
            yield from _tensors(each)
    elif isinstance(values, (tuple, list)):
        for each in values:
            yield from _tensors(each)


def _first(values: Any) -> Any:
    """The same with the first sample of every tensor alone."""
    if isinstance(values, Tensor):
        return values[:1]
    if isinstance(values, Mapping):
        return {key: _first(each) for key, each in values.items()}
    if isinstance(values, (tuple, list)):
        return type(values)(_first(each) for each in values) if not hasattr(values, "_fields") else values
    return values
