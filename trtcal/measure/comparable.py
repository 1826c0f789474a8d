"""What can be compared of two models where the sizes of outputs depend on the data, as those of selections do."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from calibrators.batches import Array
from calibrators.errors import ModelError
from engines.sessions.onnxruntime import Session
from trtcal.measure.measures import Score, uncounted
from trtcal.tasks.class_scores import class_output


def require_values(outputs: Sequence[Mapping[str, Array]], sized: Mapping[str, str]) -> None:
    """Refuse a float model by whose outputs nothing can be told: their sizes depend on the data, and nothing is found.

    Args:
        outputs: Of the float model, for all samples.
        sized: Outputs whose size depends on the data -> the label of the node that decides it.

    Raises:
        ModelError: All float outputs are such, and in no sample does one hold a value other than 0.
    """
    floats = {name for each in outputs for name, value in each.items() if value.dtype.kind == "f"}
    if floats <= sized.keys() and not any(np.any(each[name]) for each in outputs for name in floats):
        raise ModelError(
            f"the sizes of the outputs {', '.join(sorted(floats))} depend on the data, and the float model selects "
            "nothing in any sample, so nothing can be compared: "
            f"{_way_out(sized[name] for name in sorted(floats))}, or other samples"
        )


def counted_alike(scores: Mapping[str, Score], sized: Collection[str]) -> dict[str, Score]:
    """Scores in which the same outputs count (`Score.counted`): those that are of one size in every model and sample.

    Args:
        scores: By model, measured side by side.
        sized: Outputs that are known to have a size that depends on the data.
    """
    varying = frozenset(sized).union(*(each.unlike for each in scores.values()))
    floats = {name for each in scores.values() for name in (*each.distortions, *each.counted)}
    left_out = uncounted(floats, varying)
    return {name: replace(each, uncounted=left_out) for name, each in scores.items()}


def require_comparable(
    name: str,
    outputs: Mapping[str, Array],
    reference: str,
    expected: Mapping[str, Array],
    models: Mapping[str, Session],
    sized: Collection[str],
) -> None:
    """Refuse outputs that are other things: of other axes, or of other sizes that do not come from the data.

    Args:
        name: The model's.
        outputs: Its outputs, under the reference's names.
        reference: The reference's name.
        expected: Its outputs.
        models: All of them.
        sized: Outputs whose size depends on the data.

    Raises:
        ModelError: There is such an output.
    """
    free = {spec.name for spec in models[reference].outputs if not all(isinstance(size, int) for size in spec.shape)}
    held = class_output(expected, sized)
    for output, value in expected.items():
        own, wanted = outputs[output].shape, value.shape
        if own != wanted and (len(own) != len(wanted) or output == held or output not in free | set(sized)):
            own_size, wanted_size = ("x".join(map(str, each)) or "one number" for each in (own, wanted))
            raise ModelError(
                f"output {output} is {own_size} in {name} and {wanted_size} in {reference}: "
                "compare models with the same classes and outputs"
            )


def require_anything_compared(scores: Mapping[str, Score], reference: str | None, sized: Mapping[str, str]) -> None:
    """Refuse models of which no sample could be compared.

    Raises:
        ModelError: It is so, as sizes depend on the data.
    """
    others = {name: each for name, each in scores.items() if name != reference}
    names = dict.fromkeys([*sized, *(name for each in others.values() for name in each.unlike)])
    measured = any(each.distortions or each.agreement.total or each.top1.total for each in others.values())
    if reference is None or measured or not others or not names:
        return
    raise ModelError(
        f"the size of {', '.join(names)} depends on the data, and in no sample {', '.join(others)} can be compared "
        f"with {reference}: {_way_out(sized.get(name, '') for name in names)}"
    )


def _way_out(labels: Iterable[str]) -> str:
    """What to do where all outputs are selections."""
    deciding = ", ".join(dict.fromkeys(filter(None, labels)))
    read = f"what {deciding} reads" if deciding else "the values that are selected from"
    return f"give models that have {read} as outputs too"
