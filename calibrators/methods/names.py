"""What the range methods are called, in the order in which lists have them: a new method's name goes here.

And what other tools call them: each name of a peer is understood, or answered with what to take. Nothing is imported
here: the command line's help lists the names.
"""

from collections.abc import Mapping
from types import MappingProxyType

REMARKS: Mapping[str, str] = MappingProxyType(
    {
        "entropy": "",
        "minmax": "or absmax",
        "mean": "",
        "percentile": "99.99; another such as percentile:99.9",
        "mse": "",
        "emd": "the true distance; PaddleSlim's emd is emd-moments",
        "emd-moments": "",
        "aciq": "",
        "lsq-scale": "",
        "sqnr": "",
        "best": "",
    }
)
"""By name, what help texts say of it in brackets; TensorRT's own first, last the one that chooses by tensor."""

AUTO = "auto"
"""In the place of a name: the method of a few that measures best on images that were not calibrated on."""

DEFAULT = "mse"
"""What `AUTO` stands for where there is nothing to measure on: of all, it loses least against the best of each model
(`python -m benchmarks.league`)."""

ALIASES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "entropy": ("kl", "kl_divergence", "KLObserver", "EntropyCalibration2", "EntropyCalibrator2"),
        "minmax": (
            *("absmax", "abs_max", "max", "min_max", "tf", "post_training_tf"),
            *("AbsmaxObserver", "MaxCalibrator", "MinMaxCalibration", "MinMaxCalibrator"),
        ),
        "mean": ("avg", "average", "AVGObserver"),
        "percentile": ("post_training_percentile",),
        "mse": ("MSEObserver",),
        "emd-moments": ("EMDObserver",),
        "lsq-scale": ("admm",),
        "sqnr": ("tf_enhanced", "post_training_tf_enhanced"),
    }
)
"""By method, what TensorRT, AIMET, PaddleSlim, pytorch-quantization, TVM, ncnn and MNN call it."""

QUANTIZERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "lsq": ("ActLSQQuanter", "WeightLSQQuanter"),
        "lsq+": ("lsq_plus", "ActLSQplusQuanter", "WeightLSQplusQuanter"),
        "pact": ("PACTQuanter",),
        "learned-range": ("training_range_learning_with_tf_init", "training_range_learning_with_tf_enhanced_init"),
        "moving-average-absmax": ("moving_average_abs_max", "ema", "FakeQuanterWithAbsMaxObserver"),
    }
)
"""What `trtcal.qat` trains with, which is no range method, and what other tools call it."""

WEIGHTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "absmax": (
            *("max", "min_max", "tf", "channel_wise_abs_max", "abs_max_channel_wise"),
            *("AbsMaxChannelWiseWeightObserver", "FakeQuanterChannelWiseAbsMaxObserver"),
        ),
        "mse": ("MSEChannelWiseWeightObserver",),
    }
)
"""How scales of weights are chosen (`calibrators.weights`), and what other tools call it."""

POWERS_OF_TWO: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"power_of_two": ("power2", "power_of_2", "powers_of_two", "pow2", "po2")}
)
"""What no method is but a setting of a layer, and what other tools call it."""

_HISTOGRAM = (
    "PaddleSlim's is percentile:99.9 here (another share, another number), NNCF's is mse, and pytorch-quantization's "
    "is entropy, mse or percentile, which it asks for later"
)

ELSEWHERE: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("hist", "histogram", "HistObserver", "HistogramCalibrator"), _HISTOGRAM),
        "EntropyCalibration": "TensorRT's older entropy calibrator is not rebuilt here; its newer one is entropy",
        "LegacyCalibration": "TensorRT's legacy calibrator takes a quantile: say percentile:99.9, or another share",
        "quantile": "say percentile:99.9, or another share in per cent",
        "isotone": "none here does the same as PPQ's: choose by `trtcal compare`",
        "global_scale": "none here takes TVM's one scale for all tensors: choose by `trtcal compare`",
        "auto": "`trtcal calibrate --method auto` chooses one for a model, and best one for each tensor",
    }
)
"""Names of other tools that are no method here, or several -> what to take."""


def listed() -> str:
    """The names in one line, for help texts."""
    return ", ".join(f"{name} ({remark})" if remark else name for name, remark in REMARKS.items())


def canonical(name: str) -> str:
    """The name that a method has here: that of "KL" is "entropy". What is unknown, and a percentage, stay as they are.

    Neither case nor "-" and "_" tell names apart.
    """
    family, colon, percentage = name.partition(":")
    known = among({each: ALIASES.get(each, ()) for each in REMARKS}, family)
    return f"{known}{colon}{percentage}" if known == "percentile" or not colon else name


def among(names: Mapping[str, tuple[str, ...]], name: str) -> str:
    """The one of `names` that a name stands for, being it or one of its others; the name itself for none."""
    plain = _plain(name)
    return next((own for own, others in names.items() if plain in map(_plain, (own, *others))), name)


def elsewhere(name: str) -> str:
    """What to take in the place of a name that is no range method, but of other tools or of training; else empty."""
    quantizer = among(QUANTIZERS, name)
    if quantizer in QUANTIZERS:
        nearest = "; without training, mean comes nearest" if quantizer == "moving-average-absmax" else ""
        return f"{quantizer} is a quantizer to train a PyTorch model with (trtcal.qat.QAT){nearest}"
    return next((told for other, told in ELSEWHERE.items() if _plain(other) == _plain(name)), "")


def _plain(name: str) -> str:
    return name.casefold().replace("-", "").replace("_", "")
