"""The types that a plan gives the layers of a build, where the model or the builder's settings say them."""

import glob
from collections.abc import Iterable
from dataclasses import replace

import onnx

from calibrators.errors import BuildError
from engines.backends.backend import NumberType
from engines.backends.settings import require_types
from engines.build.layer_plan import NO_PLAN, LayerConfig, LayerPlan, some
from engines.build.request import BuildRequest
from engines.graph.operators import label
from engines.inspection.inspect import Operator
from engines.passes.half import HalfModel, to_half
from engines.qdq.read import DEQUANTIZE
from engines.simulation.layer_names import layers_of
from engines.structure.findings import Finding


def planned_for(request: BuildRequest, config: LayerConfig) -> LayerPlan:
    """What a configuration makes of the layers of the model that is built.

    Raises:
        BuildError: It does not go with what is built: a layer is to be INT8 in a float build, or float though the model
            has Q/DQ nodes for it.
        ConfigError: A layer is to be quantized as TensorRT cannot.
    """
    plan = config.plan(layers_of(request.model))
    if request.precision != "int8" and (int8 := plan.named("int8")):
        raise BuildError(
            f"the configuration has {some(int8)} in INT8, and the build is in {request.precision}: leave out "
            "--precision for an INT8 build, or have no layer in INT8"
        )
    if request.needs_ranges and not plan.named("int8"):
        raise BuildError(
            "the configuration has no layer in INT8: build with --precision fp16 or fp32, without ranges, or have one "
            "at least in INT8"
        )
    if request.precision == "int8" and not request.needs_ranges:
        quantized = _quantized(request.graph)
        if both := [name for name in plan.named("fp16", "fp32", "float") if name in quantized]:
            raise BuildError(
                f"the configuration has {some(both)} in {plan.precisions[both[0]]}, and the model has Q/DQ nodes "
                "there: quantize the float model with the same configuration (trtcal quantize --config)"
            )
    blocks = [name for name, options in plan.weights.items() if options.granularity.block_size is not None]
    if blocks and request.needs_ranges:
        raise BuildError(
            f"the configuration has weights by blocks for {some(blocks)}, and TensorRT has no INT8 weights by blocks: "
            'take granularity = "channel"'
        )
    return plan


def constrained(request: BuildRequest, plan: LayerPlan, *, implicit: bool) -> BuildRequest:
    """The request for a builder that chooses types, with those of single layers among its options.

    What stays float without a type of its own may be any that the build allows; where TensorRT quantizes by itself, it
    must be told one, or it would choose INT8. What the options say already goes before.

    Raises:
        BuildError: A layer is to be of a type that the build does not allow.
    """
    wanted: dict[str, NumberType] = dict(request.options.layer_precisions)
    rest: NumberType = "fp16" if "fp16" in request.types else "fp32"
    for name, precision in plan.precisions.items():
        if precision in ("fp16", "fp32"):
            wanted.setdefault(glob.escape(name), precision)
        elif precision == "float" and implicit:
            wanted.setdefault(glob.escape(name), rest)
    options = replace(request.options, layer_precisions=wanted)
    require_types(options, request.types)
    return replace(request, options=options)


def halved(request: BuildRequest, graph: onnx.ModelProto, plan: LayerPlan | None) -> HalfModel:
    """The graph for a strongly typed builder: in FP16 where the build is, but for layers that a plan has otherwise.

    Raises:
        BuildError: The model has FP16 tensors of its own, and the plan wants others.
    """
    keep, only = (plan or NO_PLAN).named("fp32"), (plan or NO_PLAN).named("fp16")
    fp16 = "fp16" in (request.precision, request.rest)
    if not (fp16 or only):
        return HalfModel(graph, ())
    if _has_halves(graph):
        if keep or only:
            raise BuildError(
                f"the configuration gives {some([*keep, *only])} a type, and the model has FP16 tensors of its own, "
                "which are built as they are: give the FP32 model"
            )
        return HalfModel(
            graph, ("the model has FP16 tensors of its own: they, and its FP32 ones, are built as they are",)
        )
    return to_half(graph, keep=keep) if fp16 else to_half(graph, only=only)


def told(plan: LayerPlan) -> tuple[str, ...]:
    """What a plan does to a build, a line each."""
    words = {"fp16": "in FP16", "fp32": "in FP32", "float": "in float, as what is not quantized"}
    return (
        *plan.notes,
        *(
            f"by the configuration, {len(names)} layer(s) are {words[precision]}: {some(names)}"
            for precision in ("fp16", "fp32", "float")
            if (names := [name for name in plan.named(precision) if name not in plan.reasons])
        ),
        *(f"{name} stays in float: {why}" for name, why in plan.reasons.items()),
    )


def disobeyed(plan: LayerPlan, operators: Iterable[Operator]) -> tuple[Finding, ...]:
    """Operators that the engine runs in another type than their layer's.

    INT8 operators that have Q/DQ nodes and run in float are told by `engines.inspection.inspect.findings_of`.
    """
    return tuple(
        Finding(
            "warning",
            "not-as-configured",
            (each.node,),
            f"{each.op_type} {each.node} is to run in {wanted.upper()} by the configuration, and runs in "
            f"{each.precision} (kernel {each.kernel}): "
            + ("it has no Q/DQ nodes" if wanted == "int8" else "the builder chose so"),
        )
        for each in operators
        if (wanted := plan.precisions.get(each.node, "float")) != "float"
        and each.precision not in (None, wanted.upper())
        and not (wanted == "int8" and each.quantized)
    )


def _quantized(graph: onnx.ModelProto) -> set[str]:
    """Labels of the operators that read dequantized values."""
    given = {name for node in graph.graph.node if node.op_type == DEQUANTIZE for name in node.output}
    return {label(node) for node in graph.graph.node if given & set(node.input)}


def _has_halves(graph: onnx.ModelProto) -> bool:
    typed = {tensor.data_type for tensor in graph.graph.initializer}
    typed |= {
        item.i for node in graph.graph.node if node.op_type == "Cast" for item in node.attribute if item.name == "to"
    }
    return bool(typed & {onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16})
