"""What code that was written for aimet-onnx gives a simulation, and what its callbacks ask of a session."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from calibrators.batches import Array, TensorSpec
from calibrators.errors import ConfigError, DataError, listed
from calibrators.methods.names import DEFAULT
from engines.graph.runtime import DTYPES
from engines.sessions.closing import Closing
from engines.sessions.onnxruntime import Session

SCHEME = DEFAULT
"""Unless another is given."""


def chosen_scheme(scheme: object, quant_scheme: object) -> object:
    """The scheme that was given: by our word for it, or by AIMET's.

    Raises:
        ConfigError: Both were.
    """
    if quant_scheme is None:
        return scheme
    if scheme != SCHEME:
        raise ConfigError(f"scheme is {scheme!r}, and quant_scheme, which means the same, {quant_scheme!r}: give one")
    return quant_scheme


def chosen_bits(ours: Mapping[str, int | None], kind: tuple[str, object]) -> int | None:
    """The bits that were given: as a number, by our word for them or AIMET's, or as AIMET's type; None for none.

    Args:
        ours: Numbers of bits by word.
        kind: Word and value of the type: "int8", or an object that has `bits`.

    Raises:
        ConfigError: Several were given, or the type is none.
    """
    given = {word: bits for word, bits in ours.items() if bits is not None}
    word, value = kind
    if value is not None:
        found = re.fullmatch(r"int([0-9]{1,2})", value) if isinstance(value, str) else None
        bits = int(found[1]) if found else getattr(value, "bits", None)
        if not isinstance(bits, int):
            raise ConfigError(f"{word} is int2 to int16, not {value!r}: say it in bits, as {next(iter(ours))}=8")
        given[word] = bits
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)} mean the same: give one")
    return next(iter(given.values()), None)


def require_runs(session: Session, example: object) -> None:
    """Refuse an example of the inputs that a model does not run on.

    Args:
        session: Of the model.
        example: Arrays by input name, or in the inputs' order, or one for the only input.

    Raises:
        DataError: It does not fit the inputs.
        ModelError: The model fails on it.
    """
    names = [spec.name for spec in session.inputs]
    if isinstance(example, (tuple, list)):
        if len(example) != len(names):
            raise DataError(
                f"dummy_input holds {len(example)} arrays, and the inputs are {listed(names)}: give as many"
            )
        example = dict(zip(names, example, strict=True))
    if not isinstance(example, Mapping):
        example = {names[0]: example} if len(names) == 1 else {"dummy_input": example}
    session.run({name: np.asarray(value) for name, value in example.items()})


def feed_of(data: Any, callback: object, arguments: object) -> Any:
    """What encodings are computed from: data, or a function, whose session answers the calls of AIMET's callbacks.

    Args:
        data: As `QuantSim.compute_encodings` takes them, which may be a function, too; None for none.
        callback: A function; None for none.
        arguments: What it is given after the session; ``...`` for nothing.

    Raises:
        DataError: Both are given, or neither; or the callback is no function; or there are arguments for data.
    """
    if (data is None) == (callback is None):
        raise DataError("encodings are computed from data, or by a forward_pass_callback in their place: give one")
    if callback is None:
        function = data if not any(hasattr(data, each) for each in ("__iter__", "__getitem__")) else None
    else:
        function = callback
    if not callable(function):
        if callback is not None or arguments is not ...:
            raise DataError(
                "forward_pass_callback is a function that runs batches through the session it is given, not of type "
                f"{type(data if callback is None else callback).__name__}: give data alone, or a function"
            )
        return data
    further = () if arguments is ... else (arguments,)
    return lambda session: function(CallbackSession(session), *further)


@dataclass(frozen=True, slots=True)
class Argument:
    """An input or output, as ONNX Runtime has it.

    Attributes:
        name: In the model.
        shape: Of each axis a number, or a name or None where its size is free.
        type: Such as "tensor(float)".
    """

    name: str
    shape: list[int | str | None]
    type: str


class CallbackSession(Closing):
    """A session that also answers the calls of ONNX Runtime's, which AIMET's callbacks make.

    Args:
        session: That runs.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What `run` takes, in the model's order."""
        return self._session.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What `run` gives, in the model's order."""
        return self._session.outputs

    def run(self, batch: Any, input_feed: Mapping[str, Array] | None = None, run_options: object = None) -> Any:
        """Outputs by name, of arrays by input name; or, as in ``run(None, feed)``, those that are named, in a list.

        Args:
            batch: Arrays by input name; or the names of outputs, None for all.
            input_feed: Arrays by input name, in the second form.
            run_options: Not looked at: what ONNX Runtime does meanwhile is the calibration's.

        Raises:
            DataError: The arrays do not fit the inputs, or there is no such output.
        """
        if input_feed is None:
            return self._session.run(batch)
        known = [spec.name for spec in self.outputs]
        names: Sequence[str] = known if batch is None else batch
        unknown = [name for name in names if name not in known]
        if unknown:
            raise DataError(f"the model has no output {unknown[0]!r}: its outputs are {listed(known)}")
        outputs = self._session.run(input_feed)
        return [outputs[name] for name in names]

    def get_inputs(self) -> list[Argument]:
        """As ONNX Runtime tells them."""
        return [_argument(spec) for spec in self.inputs]

    def get_outputs(self) -> list[Argument]:
        """As ONNX Runtime tells them."""
        return [_argument(spec) for spec in self.outputs]

    def close(self) -> None:
        """Let go of the session."""
        self._session.close()


def _argument(spec: TensorSpec) -> Argument:
    kinds = [kind for kind, dtype in DTYPES.items() if dtype == spec.dtype]
    return Argument(spec.name, list(spec.shape), kinds[0] if kinds else f"tensor({spec.dtype})")
