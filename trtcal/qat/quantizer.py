"""What all quantizers have in common: switches, the first range, their state, the encoding that they stand for."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from calibrators.encoding import Encoding
from calibrators.errors import DataError, ModelError, RangeError
from calibrators.grid import TENSORRT_INT8, Grid
from calibrators.weights import SMALLEST_SCALE
from trtcal.qat.distributed import largest_over_ranks
from trtcal.qat.faults import require_values
from trtcal.qat.functional import fake_quantize, linked

Subject = Literal["activation", "weight"]


class Quantizer(nn.Module):
    """Quantizes a tensor and gives it back in float, in training with gradients straight through.

    A weight's range begins with the weight, an activation's with the first batch in training mode; what is learned has
    the value 0 until then. Where `torch.distributed` is in use, all ranks begin with the range of all their batches.

    Args:
        grid: The levels. On an asymmetric grid an activation that is never negative in the first batch has its 0 on the
            lowest level, another one in the middle, unless the zero point is learned.
        of: What it quantizes.
        axis: Of a weight's output channels, each with a scale of its own; None for one scale.
        channels: How many.
        name: What it quantizes, for messages.

    Attributes:
        enabled: Whether it quantizes; else tensors pass as they are.
        observing: Whether it takes or follows a range from what it sees.
        started: Whether it has a range.
        zero_point: The level of 0, where it is not learned.
    """

    first_batches = 1
    """Batches that an activation's first range comes from."""

    def __init__(
        self,
        grid: Grid = TENSORRT_INT8,
        *,
        of: Subject = "activation",
        axis: int | None = None,
        channels: int = 0,
        name: str = "a tensor",
    ) -> None:
        super().__init__()
        self.grid, self.of, self.axis, self.name = grid, of, axis, name
        self.shape = () if axis is None else (channels,)
        self.enabled, self.observing, self.started = True, True, False
        self.zero_point = grid.zero_point if grid.symmetric else (grid.minimum + grid.maximum + 1) // 2
        self._batches, self._blanks = 0, False
        self.followers, self._kept = 0, _Kept()

    @property
    def levels(self) -> tuple[int, int]:
        """The levels n and p, the lowest and highest level relative to that of 0."""
        return self.grid.minimum - self.zero_point, self.grid.maximum - self.zero_point

    def forward(self, x: Tensor) -> Tensor:
        """x, quantized and back.

        Raises:
            ModelError: It has no range yet.
            DataError: The range would be NaN or infinite, or it is no tensor of numbers.
        """
        require_values(x, self.name)
        if self.observing and x.numel() and (self.of == "weight" or self.training):
            with torch.no_grad():
                self.observe(x.detach())
        result = self.passed(x)
        self._kept.put(x, result, self.followers)
        return result

    def again(self, x: Tensor) -> Tensor:
        """What it gave for x a moment ago, or x passed as that was."""
        found = self._kept.take(x)
        return self.passed(x) if found is None else found

    def passed(self, x: Tensor) -> Tensor:
        """The same without a look at it."""
        zeros = self._batches > 0 and not self.started and not bool(x.any())
        if zeros or not self.enabled or not x.numel():
            return linked(x, *self.parameters())
        if not self.started:
            raise ModelError(
                f"{self.name} has no range yet: run a batch through the model in training mode (model.train(), "
                "observers enabled) first"
            )
        return self.quantized(x)

    def observe(self, x: Tensor) -> None:
        """Take the first range from what is seen."""
        if self.of == "weight":
            if not self.started or self._blanks:
                self.begin(x)
                self.started, self._blanks = True, self._blank()
        elif self._batches < self.first_batches or not self.started:
            self.follow(x)

    def follow(self, x: Tensor) -> None:
        """Take an activation's range from a batch, or after one that held only zeros from the next."""
        if self._batches == 0 and not self.grid.symmetric and bool(largest_over_ranks(-x.amin()) <= 0):
            self.zero_point = self.grid.minimum
        self.begin(x)
        self._batches += 1
        self.started = not self._blank()

    def begin(self, x: Tensor) -> None:
        """Take a first range from a weight or a batch, without gradients."""
        raise NotImplementedError

    def quantized(self, x: Tensor) -> Tensor:
        """x, quantized and back; the scale does not learn."""
        return fake_quantize(x, self.scale(), self.zero_point, self.grid.minimum, self.grid.maximum, axis=self.axis)

    def scale(self) -> Tensor:
        """The step, of shape () or (channels,)."""
        raise NotImplementedError

    def zero_points(self) -> Tensor | int:
        """The level of 0."""
        return self.zero_point

    def encoding(self, weight: Tensor | None = None) -> Encoding:
        """What it does, as ONNX and TensorRT have it.

        Args:
            weight: What it quantizes; only a quantizer that follows a weight looks at it, unless its observer is off.

        Raises:
            ModelError: It has no range yet, or what it has learned is none.
            RangeError: It has seen only zeros.
        """
        with torch.no_grad():
            if weight is not None and self.of == "weight" and (self.observing or not self.started):
                self.observe(weight)
            if not self.started and self._batches:
                raise RangeError(f"{self.name} was 0 throughout: leave it in float")
            if not self.started:
                raise ModelError(f"{self.name} has no range yet: train the model first, or skip it")
            scale, zero = self.scale(), self.zero_points()
        steps = scale.float().cpu().numpy()
        if not np.isfinite(steps).all() or (self.of == "activation" and (steps <= SMALLEST_SCALE).any()):
            raise ModelError(
                f"the scale of {self.name} has become {float(np.min(steps)):g}: train with a lower learning rate"
            )
        zeros = zero.cpu().numpy() if isinstance(zero, Tensor) else np.full(steps.shape, zero)
        return Encoding(steps, zeros, self.grid, self.axis)

    def reset(self) -> None:
        """Forget a range that came from a weight: another one takes its place."""
        if self.of == "weight":
            self.started = False
            with torch.no_grad():
                for parameter in self.parameters():
                    parameter.zero_()

    def get_extra_state(self) -> dict[str, Any]:
        """What a state dict holds of it beside what is learned."""
        return {
            "enabled": self.enabled,
            "observing": self.observing,
            "started": self.started,
            "zero_point": self.zero_point,
            "batches": self._batches,
            "bits": self.grid.bits,
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take it over from a state dict.

        Raises:
            ModelError: It is that of a quantizer of other levels.
        """
        _require_bits(self.name, self.grid, state)
        self.enabled, self.observing, self.started = state["enabled"], state["observing"], state["started"]
        self.zero_point, self._batches = state["zero_point"], state["batches"]

    def extra_repr(self) -> str:
        """Its levels and switches."""
        switches = "" if self.enabled else ", enabled=False"
        return f"bits={self.grid.bits}, of={self.of!r}, axis={self.axis}, started={self.started}{switches}"

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        """The float model's state dict has nothing for it, which is no error: a weight's range then begins anew."""
        if any(key.startswith(prefix) for key in state_dict):
            super()._load_from_state_dict(state_dict, prefix, *rest)
        else:
            self.reset()

    def _blank(self) -> bool:
        """Whether something has no value yet, having seen only zeros."""
        return any(bool((parameter == 0).any()) for parameter in self.parameters())

    def _fill(self, parameter: Tensor, value: Tensor) -> None:
        """Set a parameter to its first value.

        Raises:
            DataError: That is no number.
        """
        if not bool(torch.isfinite(value).all()):
            what = "the weight" if self.of == "weight" else "the first batch"
            raise DataError(f"{self.name} is NaN or infinite in {what}: mend the model or its data before training")
        parameter.copy_(value if self.of == "activation" else torch.where(parameter == 0, value, parameter))


class _Kept:
    """A result with gradients, until all that follow have taken it: with what it is of, unless either was changed."""

    def __init__(self) -> None:
        self._held: tuple[Tensor, Tensor, int, int] | None = None
        self._readers = 0

    def put(self, x: Tensor, result: Tensor, readers: int) -> None:
        """Keep the result of x for so many."""
        kept = readers > 0 and result.requires_grad
        self._held, self._readers = (x, result, x._version, result._version) if kept else None, readers

    def take(self, x: Tensor) -> Tensor | None:
        """The result of x, if it is kept."""
        if self._held is None or not torch.is_grad_enabled():
            return None
        given, result, *versions = self._held
        self._readers -= 1
        if self._readers == 0:
            self._held = None
        return result if given is x and versions == [x._version, result._version] else None

    def __reduce__(self) -> Any:
        return _Kept, ()  # a copy holds nothing


class Follower(nn.Module):
    """Quantizes a tensor as the quantizer of another layer does, which has seen it already.

    Args:
        leader: That quantizer; its parameters are that layer's alone.
    """

    def __init__(self, leader: Quantizer) -> None:
        super().__init__()
        self._leader = (leader,)  # in a tuple, so that it is not a module of this one as well
        leader.followers += 1

    @property
    def leader(self) -> Quantizer:
        """The other layer's quantizer."""
        return self._leader[0]

    def forward(self, x: Tensor) -> Tensor:
        """x, quantized and back."""
        return self.leader.again(x)

    def encoding(self, weight: Tensor | None = None) -> Encoding:
        """The leader's."""
        return self.leader.encoding(weight)

    def extra_repr(self) -> str:
        """What the leader quantizes."""
        return f"as {self.leader.name}"


def _require_bits(name: str, grid: Grid, state: Mapping[str, Any]) -> None:
    """Refuse the state of a quantizer of other levels, whose scales mean something else."""
    bits = state.get("bits", grid.bits)
    if bits != grid.bits:
        raise ModelError(
            f"{name} has {grid.bits} bits, and the state dict is of one with {bits}: quantize the model with the "
            "settings that it was saved with"
        )


class FixedQuantizer(nn.Module):
    """Quantizes a tensor with an encoding that does not change.

    Args:
        encoding: How.
        name: What, for messages.

    Attributes:
        enabled: Whether it quantizes; else tensors pass as they are.
    """

    def __init__(self, encoding: Encoding, *, name: str = "a tensor") -> None:
        super().__init__()
        if encoding.block_size is not None:
            raise RangeError(f"{name} has scales by blocks, which PyTorch does not simulate: take them per channel")
        self.grid, self.axis, self.name = encoding.grid, encoding.axis, name
        self.enabled = True
        self.register_buffer("scale", torch.from_numpy(np.array(encoding.scale)))
        self.register_buffer("zero_point", torch.from_numpy(np.array(encoding.zero_point)))

    def forward(self, x: Tensor) -> Tensor:
        """x, quantized and back.

        Raises:
            DataError: It is no tensor of numbers.
        """
        if not self.enabled:
            return x
        require_values(x, self.name)
        return fake_quantize(x, self.scale, self.zero_point, self.grid.minimum, self.grid.maximum, axis=self.axis)

    def encoding(self, weight: Tensor | None = None) -> Encoding:
        """The encoding."""
        return Encoding(self.scale.float().cpu().numpy(), self.zero_point.cpu().numpy(), self.grid, self.axis)

    def get_extra_state(self) -> dict[str, Any]:
        """Its bits, for a state dict."""
        return {"bits": self.grid.bits}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Refuse the state of one of other levels.

        Raises:
            ModelError: It is that.
        """
        _require_bits(self.name, self.grid, state)

    def extra_repr(self) -> str:
        """Its levels and axis."""
        return f"bits={self.grid.bits}, axis={self.axis}" + ("" if self.enabled else ", enabled=False")
