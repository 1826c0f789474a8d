"""Puts quantization into a graph: QuantizeLinear and DequantizeLinear nodes, integer weights, operands in FP16."""

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from calibrators.encoding import Encoding
from calibrators.grid import TENSORRT_INT8, Grid
from engines.graph.writer import GraphWriter
from engines.qdq.placement import Site

WIDE_OPSET = 21
"""QuantizeLinear and DequantizeLinear take 16 bits from this opset on."""

Levels = npt.NDArray[np.int32]

_ONE = Encoding(np.asarray(1, np.float32), np.asarray(0, np.int32))


def container(grid: Grid) -> np.dtype[np.integer]:
    """The integer type that holds a grid's levels in ONNX: of 8 bits where these suffice, else of 16."""
    if grid.bits <= 8:
        return np.dtype(np.int8 if grid.signed else np.uint8)
    return np.dtype(np.int16 if grid.signed else np.uint16)


def in_int8(encoding: Encoding) -> Encoding | None:
    """An encoding of the same values with zero point 0 on -128..127; None where these levels do not hold them."""
    zero, grid = encoding.zero_point, encoding.grid
    if encoding.block_size is not None or (grid.minimum - zero < TENSORRT_INT8.minimum).any():
        return None
    if (grid.maximum - zero > TENSORRT_INT8.maximum).any():
        return None
    return Encoding(encoding.scale, np.zeros_like(zero), TENSORRT_INT8, encoding.axis)


def written(encoding: Encoding) -> Encoding:
    """What an activation's levels are written in: INT8 with zero point 0 where the grid is narrower and fits."""
    return (in_int8(encoding) if encoding.grid.bits < TENSORRT_INT8.bits else None) or encoding


class Pairs:
    """Writes into a graph what its sites' operands go through.

    One QuantizeLinear per activation and encoding, one DequantizeLinear per reader. A grid that does not fill its
    integer type is kept by a Clip before the QuantizeLinear: 4 bits are 8 of which few levels are used, so that any
    opset from 13 on and any runtime will do. An activation of fewer than 8 bits is written as INT8 with zero point 0
    where that has room for it, be its grid asymmetric: TensorRT takes nothing else.
    """

    def __init__(self, graph: ir.Graph) -> None:
        self._writer = GraphWriter(graph)
        self._quantized: dict[str, list[tuple[Encoding, ir.Value]]] = {}
        self._halved: dict[ir.Value, ir.Value] = {}

    def activation(self, site: Site, encoding: Encoding, *, stored: Encoding | None = None) -> None:
        """Quantize a site's activation.

        Args:
            site: Its node reads the activation.
            encoding: How.
            stored: The encoding to write its levels in, of the same scale; None for what `written` says.
        """
        stored = stored or written(encoding)
        name, tensor = site.tensor, site.node.inputs[site.activation]
        known = self._quantized.setdefault(name, [])
        levels = next((value for each, value in known if each == encoding), None)
        if levels is None:
            within = self._clipped(tensor, name, encoding, stored, site.node)
            levels = self._node("QuantizeLinear", within, name, stored, site.node)
            known.append((encoding, levels))
        read = self._node("DequantizeLinear", levels, name, stored, site.node)
        site.node.replace_input_with(site.activation, read)

    def weight(self, site: Site, name: str, levels: Levels, encoding: Encoding) -> None:
        """Put integer weights, dequantized, in the place of a site's float ones.

        Args:
            site: With a weight.
            name: Of the float weight.
            levels: As `Encoding.quantize` gives them.
            encoding: Theirs. One of more than 8 bits is written as the floats that its levels stand for.
        """
        assert site.weight is not None
        if encoding.grid.bits > 8:
            constant = self._writer.constant(f"{name}_fake_quantized", encoding.dequantize(levels))
            value = self._kept(constant, name, site.node)
        else:
            constant = self._writer.constant(f"{name}_quantized", levels.astype(container(encoding.grid)))
            value = self._node("DequantizeLinear", constant, name, encoding, site.node)
            if encoding.block_size is not None:
                value = self._apart(value, levels.shape, name, site.node)
        site.node.replace_input_with(site.weight.input, value)

    def keep_weight(self, site: Site) -> None:
        """Keep a site's float weight beside a quantized activation."""
        weight = None if site.weight is None else site.node.inputs[site.weight.input]
        if site.weight is not None and weight is not None:
            site.node.replace_input_with(site.weight.input, self._kept(weight, str(weight.name), site.node))

    def half(self, site: Site) -> None:
        """Round a site's activation and weight to FP16, as an FP16 layer reads them, and its result, as it writes it.

        Sums stay in FP32. A result that is an output of the graph stays as it is.
        """
        name, tensor = site.tensor, site.node.inputs[site.activation]
        assert tensor is not None
        if tensor not in self._halved:
            self._halved[tensor] = self._rounded(tensor, name, site.node)
        site.node.replace_input_with(site.activation, self._halved[tensor])
        if site.weight is not None:
            weight = site.node.inputs[site.weight.input]
            assert weight is not None and weight.const_value is not None
            with np.errstate(over="ignore"):  # what FP16 cannot hold is infinite there, too
                floats = weight.const_value.numpy().astype(np.float16).astype(np.float32)
            site.node.replace_input_with(site.weight.input, self._writer.constant(f"{weight.name}_fp16", floats))
        (result,) = site.node.outputs[:1]
        readers = tuple(result.uses())
        if readers:
            rounded = self._rounded(result, str(result.name), site.node)  # the graph is sorted when all is written
            self._halved[rounded] = rounded
            for reader, place in readers:
                reader.replace_input_with(place, rounded)

    def _rounded(self, tensor: ir.Value, name: str, before: ir.Node) -> ir.Value:
        """A tensor through FP16 and back."""
        rounded = self._cast(tensor, f"{name}_fp16", onnx.TensorProto.FLOAT16, before)
        return self._cast(rounded, f"{name}_from_fp16", onnx.TensorProto.FLOAT, before)

    def _clipped(
        self, tensor: ir.Value | None, name: str, encoding: Encoding, stored: Encoding, reader: ir.Node
    ) -> ir.Value | None:
        """The values that a grid holds, where the type that its levels are written in holds more."""
        grid, kind = encoding.grid, np.iinfo(container(stored.grid))
        moved = int(stored.zero_point.reshape(-1)[0]) - int(encoding.zero_point.reshape(-1)[0])
        if (grid.minimum + moved, grid.maximum + moved) == (kind.min, kind.max):
            return tensor
        ends = encoding.dequantize(np.array([grid.minimum, grid.maximum], np.int32))
        bounds = [
            self._writer.constant(f"{name}_{what}", end) for what, end in zip(("lowest", "highest"), ends, strict=True)
        ]
        (clipped,) = self._writer.node(
            "Clip", [tensor, *bounds], name=f"{name}_Clip", outputs=[f"{name}_clipped"], before=reader
        )
        return clipped

    def _apart(self, weight: ir.Value, shape: tuple[int, ...], name: str, reader: ir.Node) -> ir.Value:
        """A weight behind a Reshape to the shape it has.

        ONNX Runtime (1.31) puts a DequantizeLinear into the matrix product behind it and forgets the blocks on the way:
        the product then fails. It does not look behind a Reshape.
        """
        target = self._writer.constant(f"{name}_shape", np.array(shape, np.int64))
        (reshaped,) = self._writer.node(
            "Reshape", [weight, target], name=f"{name}_Reshape", outputs=[f"{name}_reshaped"], before=reader
        )
        return reshaped

    def _kept(self, weight: ir.Value, name: str, reader: ir.Node) -> ir.Value:
        """A float weight plus 0, which ONNX Runtime cannot tell beforehand, since it leaves DequantizeLinear be.

        It (1.32) quantizes constant float weights of Conv, ConvTranspose and Gemm to INT8 on its own where operators
        before and after are quantized (WeightBiasQuantization).
        """
        nothing = self._node(
            "DequantizeLinear", self._writer.constant("zero_levels", np.array(0, np.int8)), "zero", _ONE, reader
        )
        (sum_,) = self._writer.node(
            "Add", [weight, nothing], name=f"{name}_Add", outputs=[f"{name}_kept"], before=reader
        )
        return sum_

    def _cast(self, value: ir.Value, output: str, to: int, reader: ir.Node) -> ir.Value:
        (cast,) = self._writer.node(
            "Cast", [value], name=f"{output}_Cast", outputs=[output], before=reader, attributes={"to": to}
        )
        return cast

    def _node(self, operator: str, value: ir.Value | None, name: str, encoding: Encoding, reader: ir.Node) -> ir.Value:
        """Add a QuantizeLinear or DequantizeLinear before its reader; give its output."""
        step = self._writer.constant(f"{name}_scale", encoding.scale)
        zero_point = self._writer.constant(f"{name}_zero_point", encoding.zero_point.astype(container(encoding.grid)))
        attributes = {"axis": encoding.axis, "block_size": encoding.block_size}
        (output,) = self._writer.node(
            operator,
            [value, step, zero_point],
            name=f"{name}_{operator}",
            outputs=[f"{name}_{'quantized' if operator == 'QuantizeLinear' else 'dequantized'}"],
            before=reader,
            attributes={key: number for key, number in attributes.items() if number is not None},
        )
        return output
