"""Names of tensors that are taken out of a sequence, kept where onnxscript's folding makes a Split of it.

It (0.7) gives the parts names of its own, which no calibration has seen: each would have the whole tensor's scale.
"""

from collections.abc import Mapping

import onnx_ir as ir

Parts = Mapping[str, Mapping[int, str]]
"""By sequence: the place in it, from the end where it is negative, -> the first tensor that SequenceAt takes there."""


def parts_taken(graph: ir.Graph) -> Parts:
    """What SequenceAt nodes take by constant places of what SplitToSequence gives, before folding."""
    taken = dict[str, dict[int, str]]()
    for node in graph:
        sequence, place = (*node.inputs, None, None)[:2]
        if node.op_type != "SequenceAt" or sequence is None or place is None or place.const_value is None:
            continue
        maker, name = sequence.producer(), node.outputs[0].name
        if maker is not None and maker.op_type == "SplitToSequence" and sequence.name and name:
            taken.setdefault(sequence.name, {}).setdefault(int(place.const_value.numpy().item()), name)
    return taken


def name_parts(graph: ir.Graph, taken: Parts) -> None:
    """Give the outputs of each Split that folding has made the names of what was taken, and its readers those."""
    values = {value.name: value for node in graph for value in node.outputs}
    for sequence, names in taken.items():
        first = values.get(f"{sequence}_split_0")
        maker = None if first is None else first.producer()
        count = 0 if maker is None else len(maker.outputs)
        for place, name in names.items():
            made = f"{sequence}_split_{place % count}" if count else ""
            value = values.get(f"{made}_squeeze", values.get(made))
            if value is not None and value.name != name:
                _rename(value, values.get(name), name)


def _rename(value: ir.Value, known: ir.Value | None, name: str) -> None:
    """Let a value have a name, or where another has it (an output of the model, which copies it) let that one be read.

    A second tensor that is taken at the same place has the first one's name, and the same values.
    """
    if known is None:
        value.name = name
        return
    for reader, place in tuple(value.uses()):
        if known not in reader.outputs:
            reader.replace_input_with(place, known)
