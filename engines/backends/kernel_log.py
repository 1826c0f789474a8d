"""The builder's verbose log: the kernels that it lists when an engine is done.

With detailed profiling verbosity the builder logs one message per engine::

    Layers:
    Name: <kernel>, LayerType: <kind>, Inputs: [ { Name: <tensor>, Dimensions: [-1,3,32,32], ..., Datatype: Float, ..}],
    Constants: [...], Outputs: [...], TacticName: ..., StreamId: 0, Metadata: [ONNX Layer: <node>]<0x1f>[ONNX ...

each kernel on one line; an empty line ends the list, and other sections follow. Where a model computes with sizes,
steps stand between the kernels that hand these to the device (ShapeHostToDevice) or back (DeviceToShapeHost), or wait
for them (TrainStation). Their lines have no Constants, TacticValue for TacticName, and sizes behind the outputs.

It is no public format, so whatever does not read exactly like this is refused rather than guessed at.
"""

import re
from collections.abc import Iterable

from engines.inspection.kernels import Kernel, KernelTensor

_LINE = re.compile(
    r"Name: (?P<name>.*), LayerType: (?P<kind>[^,]+), Inputs: \[(?P<inputs>.*)\], Constants: \[(?P<constants>.*)\], "
    r"Outputs: \[(?P<outputs>.*)\], TacticName: .*?, StreamId: \d+(?:, [A-Za-z]+: [^,]*)*?, Metadata: (?P<metadata>.*)"
)
_STEP = re.compile(
    r"Name: (?P<name>.*), LayerType: (?P<kind>\w+), Inputs: \[(?P<inputs>.*?)\], Outputs: \[(?P<outputs>.*?)\]"
    r"(?:, ParameterType: \w+)?(?:, shapeValues\d+: \[[^][]*\])*, TacticValue: \w+, StreamId: \d+, "
    r"Metadata: (?P<metadata>.*)"
)
_TENSOR = re.compile(
    r"\s*\{ Name: (?P<name>.*?), (?:Location: \w+, )?Dimensions: \[(?P<shape>[-\d,]*)\], (?:Strides: .*?, )?"
    r"Datatype: (?P<type>\w+), Format: .*?\}(?:,|$)"
)
_NODE = re.compile(r"\[ONNX Layer: (.*)\]", re.DOTALL)
_SEPARATORS = re.compile("[\x1e\x1f]")


class UnknownLogError(ValueError):
    """The log does not list kernels, or lists them in a way that this version of trtcal does not know."""


def read_kernels(messages: Iterable[str]) -> tuple[Kernel, ...]:
    """The kernels of the engine whose build logged `messages`, in the order in which they run.

    Raises:
        UnknownLogError: There is no list of kernels, or a line of it reads differently.
    """
    lists = [message for message in messages if message.startswith("Layers:\n")]
    if not lists:
        raise UnknownLogError("the builder's log has no list of layers")
    lines = [line for message in lists for line in message.split("\n\n")[0].split("\n")[1:] if line]
    return tuple(_kernel(line) for line in lines)


def _kernel(line: str) -> Kernel:
    match = _LINE.fullmatch(line) or _STEP.fullmatch(line)
    if match is None:
        raise UnknownLogError(f"a line of the builder's list of layers reads differently: {line[:120]!r}")
    return Kernel(
        name=match["name"],
        kind=match["kind"],
        nodes=_nodes(match["metadata"]),
        inputs=_tensors(match["inputs"]),
        constants=_tensors(match.groupdict().get("constants", "")),
        outputs=_tensors(match["outputs"]),
    )


def _tensors(text: str) -> tuple[KernelTensor, ...]:
    tensors, position = [], 0
    while match := _TENSOR.match(text, position):
        shape = tuple(int(size) for size in match["shape"].split(",") if size)
        tensors.append(KernelTensor(match["name"], match["type"], shape))
        position = match.end()
    if text[position:].strip():
        raise UnknownLogError(f"a tensor in the builder's list of layers reads differently: {text[position:][:120]!r}")
    return tuple(tensors)


def _nodes(metadata: str) -> tuple[str, ...]:
    """ONNX node names, each once; a node inside a branch is followed by " | " and the path to it, which is dropped."""
    found = [_NODE.fullmatch(entry) for entry in _SEPARATORS.split(metadata) if entry]
    return tuple(dict.fromkeys(match[1].split(" | ")[0] for match in found if match))
