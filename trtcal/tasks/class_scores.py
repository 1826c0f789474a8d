"""Which of a model's outputs holds class scores."""

import math
from collections.abc import Collection, Mapping

from calibrators.batches import Array


def class_output(outputs: Mapping[str, Array], sized: Collection[str] = ()) -> str | None:
    """The output that holds class scores: the only float one of shape (samples, classes), with 2 classes or more.

    Trailing axes of length 1 do not count, nor do outputs whose size depends on the data (`sized`), whose rows are no
    samples, nor scores with their class numbers in an output beside them, as TopK gives them: they are sorted. None
    where no output is like that (a detector), or several are.
    """
    numbers = {value.shape for value in outputs.values() if value.dtype.kind in "iu"}
    fitting = [
        name
        for name, value in outputs.items()
        if name not in sized
        and value.dtype.kind == "f"
        and value.ndim >= 2
        and value.shape[1] > 1
        and math.prod(value.shape[2:]) == 1
        and value.shape not in numbers
    ]
    return fitting[0] if len(fitting) == 1 else None
