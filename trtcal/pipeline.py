"""The main job as functions: images to a cache, a cache to a Q/DQ model; or no cache, and ranges at run time."""

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import onnx

from calibrators.cache.check import CacheFit, judge, require_cache_of
from calibrators.cache.float_layers import FLOAT_BUDGET
from calibrators.cache.sidecar import Sidecar, sidecar_path
from calibrators.cache.text import CalibrationCache
from calibrators.codecs.cache_file import load_cache
from calibrators.errors import CacheError, CacheMismatchError, ConfigError, ModelError
from calibrators.files import require_outputs, sha256_of, whole_file
from calibrators.methods.names import DEFAULT
from calibrators.statistics.file import Statistics
from calibrators.statistics.origin import require_model
from calibrators.weights import WeightMethod, weight_method_named
from engines.build.layer_plan import LayerPlan, float_layers_of, method_of, scales_for, some
from engines.graph.inputs import require_single_precision, runnable_inputs
from engines.graph.model import (
    ModelSource,
    activations,
    digest_of,
    files_of,
    is_quantized,
    load_model,
    loaded,
    model_digest,
    name_of,
    scale_groups,
)
from engines.graph.operators import COMMUTES
from engines.qdq import dynamic
from engines.qdq import write as qdq
from engines.qdq.dynamic import DynamicModel
from engines.qdq.save import saving
from engines.qdq.to_cache import QdqScales, qdq_scales
from engines.qdq.weights import WeightOptions
from engines.simulation.layer_names import layers_of
from trtcal.config.settings import QuantConfig
from trtcal.data.images import ImageLoader, OnBadImage, open_images
from trtcal.data.preprocess import Preprocess
from trtcal.data.split import COUNT


def open_for(
    model: ModelSource,
    images: str | os.PathLike[str],
    *,
    preprocess: str | os.PathLike[str] | Preprocess | None = None,
    count: int | None = COUNT,
    batch_size: int = 8,
    seed: int = 0,
    on_bad_image: OnBadImage = "error",
) -> ImageLoader:
    """Open a folder of images (or arrays) to calibrate a model on.

    Args:
        model: A path, or a model in memory.
        images: What `ImageLoader` takes.
        preprocess: A preset, a TOML file or a value; None chooses by the model.
        count: At most so many images, sampled by `seed`; None for all.
        batch_size: Images decoded together; it does not change the result.
        seed: Of the sampling.
        on_bad_image: "error" or "skip".

    Raises:
        TrtcalError: As `open_images` raises it; or the model cannot be read, or is not FP32.
    """
    proto = loaded(model)
    require_single_precision(proto)
    return open_images(
        images,
        runnable_inputs(proto),
        preprocess=preprocess,
        batch_size=batch_size,
        count=count,
        seed=seed,
        on_bad_image=on_bad_image,
    )


def quantize(
    model: ModelSource,
    cache: CalibrationCache | Statistics | str | os.PathLike[str],
    *,
    output: str | os.PathLike[str] | None = None,
    name: str = "it",
    weights: WeightMethod = "absmax",
    granularity: str = "channel",
    config: QuantConfig | str | os.PathLike[str] | None = None,
    method: str = DEFAULT,
    float_budget: float = FLOAT_BUDGET,
) -> qdq.QuantizedModel:
    """Write a cache's scales into a model as Q/DQ nodes.

    Args:
        model: An FP32 model, as a path or in memory.
        cache: A cache, or its path; or statistics from `collect`, from which `config` may want several range methods.
        output: Where to write the model, and beside it ``<output>.json`` with the preprocessing and what was left in
            float.
        name: What messages call a cache that is not given by its path.
        weights: How scales of weights are chosen: "absmax", or "mse" for the least squared error.
        granularity: What of a weight shares a scale: "channel", "tensor" or "block:N"; blocks are for ONNX Runtime.
        config: Which layers are quantized, and how, or the path of such a TOML file; it says what `weights` and
            `granularity` say, which go without it alone.
        method: The range method of layers that `config` names none for, where `cache` is statistics.
        float_budget: Percent of the multiply-accumulates that may stay in float where the cache's side-car says of
            which layers it pays; 0 for all in INT8.

    Raises:
        CacheMismatchError: The cache's side-car, or the statistics, name another model.
        ConfigError: A layer is to be quantized as TensorRT cannot.
        TrtcalError: As `engines.qdq.write.quantize` and `save` raise it.
    """
    if output is not None:
        read = [path for path in (cache, config) if isinstance(path, (str, os.PathLike))]
        require_outputs([output, sidecar_path(output)], inputs=[*files_of(model), *read])
    plan = None if config is None else planned_layers(config, model, weights, granularity)
    ranges = ranges_for(model, cache, name=name)
    name = name if isinstance(cache, (CalibrationCache, Statistics)) else str(cache)
    left = float_layers_of(ranges, model, float_budget)
    plan = plan if plan is None else plan.leaving(left)
    scales, others = scales_for(plan or LayerPlan({}), ranges, method=method, name=name)
    layers: Mapping[str, qdq.LayerChoice] = left if plan is None else plan.choices
    quantized = qdq.quantize(model, scales, weights=weights, granularity=granularity, layers=layers, caches=others)
    if plan is not None:
        quantized = as_planned(quantized, plan, scales)
    if output is not None:
        write_quantized(output, quantized, scales, model)
    return quantized


def ranges_for(
    model: ModelSource, cache: CalibrationCache | Statistics | str | os.PathLike[str], *, name: str = "it"
) -> CalibrationCache | Statistics:
    """A cache, read if it is a path, or statistics, once they are known to be this model's.

    Raises:
        CacheMismatchError: They are another's.
        CacheError: The cache cannot be read.
    """
    if isinstance(cache, Statistics):
        require_same_model(cache, model)
        return cache
    ranges = cache if isinstance(cache, CalibrationCache) else load_cache(cache)
    require_fit(ranges, model, name if isinstance(cache, CalibrationCache) else str(cache))
    return ranges


def write_quantized(
    output: str | os.PathLike[str],
    quantized: qdq.QuantizedModel,
    cache: CalibrationCache,
    model: ModelSource,
    **about: Any,
) -> None:
    """Write a model with Q/DQ nodes and its side-car.

    Args:
        output: Where to.
        quantized: The model.
        cache: That it was quantized with.
        model: The float model that the user has.
        about: What else its side-car holds.

    Raises:
        TrtcalError: As `engines.qdq.save.saving` raises it.
    """
    _write(output, quantized.model, {**_sidecar(quantized, cache, model), **about})


def planned_layers(
    config: QuantConfig | str | os.PathLike[str], model: ModelSource, weights: WeightMethod, granularity: str
) -> LayerPlan:
    """What a configuration makes of a model's layers.

    Raises:
        ConfigError: It cannot be read or followed, or `weights` or `granularity` say something beside it.
    """
    if (weight_method_named(weights), granularity) != ("absmax", "channel"):
        raise ConfigError(
            "a configuration says how weights are quantized: put weight and granularity into its [default], and leave "
            "out --weights and --granularity"
        )
    settings = config if isinstance(config, QuantConfig) else QuantConfig.load(config)
    return settings.plan(layers_of(model))


def as_planned(quantized: qdq.QuantizedModel, plan: LayerPlan, cache: CalibrationCache) -> qdq.QuantizedModel:
    """A quantized model with what is to be told of its plan; `cache` is that of most of its layers."""
    told = plan.described(quantized.layer_scales, method_of(cache) or "unknown")
    return replace(quantized, configured=told, remarks=(*plan.notes, *_typed(plan), *quantized.remarks))


def _typed(plan: LayerPlan) -> tuple[str, ...]:
    """That a Q/DQ model does not say in which type its float layers are to be."""
    names = plan.named("fp16", "fp32")
    if not names:
        return ()
    return (f"the type of {some(names)} is chosen when the engine is built: give trtcal build this configuration, too",)


def quantize_dynamic(
    model: ModelSource,
    *,
    output: str | os.PathLike[str] | None = None,
    weights: WeightMethod = "absmax",
    granularity: str = "channel",
) -> DynamicModel:
    """Quantize a model's weights to INT8, and have its activations quantized when it runs: for ONNX Runtime.

    TensorRT has no dynamic INT8; for TensorRT, `calibrate` and `quantize`.

    Args:
        model: An FP32 model, as a path or in memory.
        output: Where to write the model, and beside it ``<output>.json`` with what was left in float.
        weights: How scales of weights are chosen: "absmax", or "mse" for the least squared error.
        granularity: What of a weight shares a scale: "channel" or "tensor".

    Raises:
        TrtcalError: As `engines.qdq.dynamic.quantize_dynamic` and `engines.qdq.save.saving` raise it.
    """
    if output is not None:
        require_outputs([output, sidecar_path(output)], inputs=files_of(model))
    quantized = dynamic.quantize_dynamic(model, weights=weights, granularity=granularity)
    if output is not None:
        _write(output, quantized.model, _dynamic_sidecar(quantized, model))
    return quantized


def _write(output: str | os.PathLike[str], model: onnx.ModelProto, about: Mapping[str, Any]) -> None:
    """Write a quantized model and its side-car; neither replaces an old file before both are written."""
    with whole_file(sidecar_path(output)) as sidecar, saving(output, model) as digest:
        sidecar.write_text(json.dumps({"sha256": digest, **about}, indent=2) + "\n", encoding="utf-8")


def cache_from_qdq(model: ModelSource) -> tuple[CalibrationCache, QdqScales]:
    """A calibration cache of the scales in a model's Q/DQ nodes, and how they were read.

    The cache has the header of a new one; `with_header` gives it another. Where `quantize` wrote the model from a cache
    with a side-car, the new cache gets that, so that preprocessing and float model stay known.

    Args:
        model: With Q/DQ nodes, from `quantize` or any other tool.

    Raises:
        ModelError: As `engines.qdq.to_cache.qdq_scales` raises it.
    """
    read = qdq_scales(model)
    return CalibrationCache(read.scales, sidecar=_calibration_of(model)), read


def _calibration_of(model: ModelSource) -> Sidecar | None:
    """The side-car of the cache that a model was quantized with, as the model's own says; None where it says nothing.

    What it says of another file than this one is not believed.
    """
    if isinstance(model, onnx.ModelProto) or not sidecar_path(model).is_file():
        return None
    try:
        record = json.loads(sidecar_path(model).read_bytes())
        if record["calibration"] is None or record["sha256"] != sha256_of(model):
            return None
        return replace(Sidecar.parse(json.dumps(record["calibration"])), tensors="quantizable", explicit={})
    except (CacheError, KeyError, TypeError, ValueError, RecursionError):
        return None


def check_cache(model: str | os.PathLike[str], cache: str | os.PathLike[str]) -> CacheFit:
    """Check that a cache fits a model, as `trtcal cache check` does.

    Args:
        model: The float model.
        cache: A TensorRT calibration cache; its side-car is looked at where it has one.

    Raises:
        CacheError: The cache or its side-car cannot be read or is malformed.
        ModelError: The model cannot be read.
    """
    known = load_cache(cache, alone=True)
    graph = load_model(model, weights=False)
    return judge(
        known,
        activations=activations(graph),
        quantizable=qdq.quantizable_tensors(model),
        shared=[group.members for group in scale_groups(graph, through=COMMUTES)],
        others=_names(graph.graph),
        model_sha256=model_digest(model),
        sidecar=Sidecar.beside(cache),
    )


def _names(graph: onnx.GraphProto) -> set[str]:
    """Every name in a graph and its subgraphs: nodes, their outputs, inputs, initializers."""
    names = {value.name for value in (*graph.input, *graph.initializer, *graph.node)}
    names |= {tensor.values.name for tensor in graph.sparse_initializer}
    for node in graph.node:
        names.update(node.output)
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                names |= _names(inner)
    return names - {""}


def require_fit(cache: CalibrationCache, model: ModelSource, name: str) -> None:
    """Refuse a cache that says itself that it was made of another model.

    Raises:
        CacheMismatchError: Its side-car holds another model's SHA-256.
        ModelError: So it does, and the model is quantized already.
    """
    digest, called = digest_of(model), name_of(model)
    try:
        require_cache_of(cache, digest, name=f"the cache {name}", model=called, advice="calibrate this model")
    except CacheMismatchError:
        if is_quantized(loaded(model)):
            raise ModelError("the model is quantized already: give the float model") from None
        raise


def require_same_model(statistics: Statistics, model: ModelSource) -> None:
    """Refuse statistics that were gathered from another model.

    Raises:
        CacheMismatchError: Their SHA-256 is another model's.
    """
    require_model(
        statistics.provenance.model,
        digest_of(model),
        ranges="the statistics were gathered from",
        model=name_of(model),
        advice="collect them from this one",
    )


def _sidecar(quantized: qdq.QuantizedModel, cache: CalibrationCache, model: ModelSource) -> dict[str, Any]:
    known = cache.sidecar
    return {
        "format": 1,
        "model_sha256": digest_of(model),
        "cache_sha256": cache.sha256,
        "preprocess": None if known is None else known.preprocess,
        **(_weights(quantized.weights) if quantized.configured is None else {}),
        "quantized": list(quantized.quantized),
        "left_float": dict(quantized.left_float),
        "scales": dict(quantized.scales),
        "from_sidecar": list(quantized.from_sidecar),
        "shared": list(quantized.shared),
        "layers": quantized.configured,
        "calibration": None if known is None else known.to_dict(),
    }


def _dynamic_sidecar(quantized: DynamicModel, model: ModelSource) -> dict[str, Any]:
    return {
        "format": 1,
        "model_sha256": digest_of(model),
        "dynamic": True,
        "notes": list(quantized.notes),
        **_weights(quantized.weights),
        "quantized": list(quantized.quantized),
        "left_float": dict(quantized.left_float),
        "activations": list(quantized.activations),
    }


def _weights(options: WeightOptions) -> dict[str, str]:
    return {"weights": options.method, "granularity": str(options.granularity)}
