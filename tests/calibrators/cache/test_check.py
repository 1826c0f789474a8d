from dataclasses import replace
from pathlib import Path

import pytest

from calibrators.cache.check import UNUSABLE, CacheFit, judge, oddities_of, remarks_of
from calibrators.cache.sidecar import Sidecar
from calibrators.cache.text import CalibrationCache

MODEL = "a" * 64
SIDECAR = Sidecar(model_sha256=MODEL, method="entropy", tensors="all", image_sets=("b" * 64,), images=500, seed=0)
ACTIVATIONS = ("input", "conv1", "relu1", "gap", "fc")
QUANTIZABLE = ("input", "relu1", "gap")
CACHE = CalibrationCache({"input": 0.02, "conv1": 0.05, "relu1": 0.04, "gap": 0.03, "fc": 0.1})


def judged(cache: CalibrationCache, sidecar: Sidecar | None = None, others: tuple[str, ...] = ()) -> CacheFit:
    return judge(
        cache, activations=ACTIVATIONS, quantizable=QUANTIZABLE, others=others, model_sha256=MODEL, sidecar=sidecar
    )


def without(*names: str) -> CalibrationCache:
    return CalibrationCache({name: scale for name, scale in CACHE.items() if name not in names})


def test_a_cache_of_the_model_fits_without_a_word() -> None:
    fit = judged(CACHE, replace(SIDECAR, cache_sha256=CACHE.sha256))
    assert fit.fits
    assert fit.matched == ACTIVATIONS
    assert (fit.errors, fit.warnings) == ((), ())
    assert fit.missing == fit.unusable == fit.uncovered == fit.stale == fit.internal == ()


def test_a_missing_quantizable_tensor_is_an_error() -> None:
    fit = judged(without("relu1"))
    assert not fit.fits
    assert fit.missing == ("relu1",)
    assert fit.errors == ("1 quantizable tensor (relu1) without a scale",)


def test_a_missing_other_tensor_is_a_warning() -> None:
    fit = judged(without("conv1", "fc"))
    assert fit.fits
    assert fit.uncovered == ("conv1", "fc")
    assert fit.warnings == (
        "2 other float tensors (conv1, fc) without a scale: Q/DQ needs none, a TensorRT calibrator would leave their "
        "layers in float",
    )


@pytest.mark.parametrize(
    ("bits", "remark"),
    [
        ("0", "zero"),
        ("80000000", "zero"),
        ("7fffff", "denormal"),
        ("7f800000", "infinite"),
        ("7fc00001", "not a number"),
        ("bc010204", "negative"),
    ],
)
def test_a_scale_of_no_use_is_an_error_only_where_it_is_needed(bits: str, remark: str) -> None:
    def with_bits(name: str) -> CalibrationCache:
        return CalibrationCache.parse(
            CACHE.dumps().replace(f"{name}: {CACHE.bits(name)}".encode(), f"{name}: {bits}".encode())
        )

    needed = judged(with_bits("relu1"))
    assert needed.unusable == ("relu1",)
    assert needed.remarks["relu1"] == (remark,)
    assert needed.errors == ("1 quantizable tensor (relu1) with a scale of no use",)
    other = judged(with_bits("conv1"))
    assert other.fits
    assert other.warnings == ("1 scale (conv1) of no use as a range where Q/DQ needs none",)
    assert other.marked(*UNUSABLE) == ("conv1",)


def test_stale_names_warn_and_tensorrts_own_do_not() -> None:
    own = [
        "(Unnamed Layer* 4) [Fully Connected]_output",
        "ONNXTRT_Broadcast_95_output",
        "conv1 copy",
        "weight",
        "weight_output",
        "/fc/Gemm_output",
        "/head/TopK_output_2",
        "%125 [Cast ITensor 0xb4173920 from Int32 to Float32]_output",
    ]
    cache = CACHE.with_scales(dict.fromkeys([*own, "old_conv", "old_conv_output"], 0.1))
    fit = judged(cache, others=("weight", "/fc/Gemm", "/head/TopK"))
    assert fit.fits
    assert fit.internal == tuple(own)
    assert fit.stale == ("old_conv", "old_conv_output")
    assert fit.warnings == ("2 names (old_conv, old_conv_output) in the cache that the model does not know",)


def test_a_name_of_tensorrts_kind_that_the_model_has_is_matched() -> None:
    name = "(Unnamed Layer* 4) [Fully Connected]_output"
    fit = judge(CalibrationCache({name: 1.0}), activations=(name,), quantizable=(name,))
    assert (fit.fits, fit.matched, fit.internal) == (True, (name,), ())


def test_another_models_cache() -> None:
    fit = judged(CalibrationCache({"images": 0.1, "output0": 1.0}))
    assert fit.errors == ("no name in it is a tensor of the model: it is another model's",)
    other = judged(CACHE, replace(SIDECAR, model_sha256="c" * 64, cache_sha256=CACHE.sha256))
    assert other.other_model
    assert other.errors == ("its side-car names another model (SHA-256 differs): calibrate this one",)


def test_another_caches_sidecar_is_an_error_and_says_nothing_of_the_model() -> None:
    fit = judged(CACHE, replace(SIDECAR, model_sha256="c" * 64, cache_sha256="d" * 64))
    assert (fit.other_cache, fit.other_model) == (True, False)
    assert fit.errors == ("its side-car describes another cache (SHA-256 differs): calibrate again or delete it",)


def test_tensors_that_share_a_scale_serve_each_other() -> None:
    def fit(cache: CalibrationCache) -> CacheFit:
        activations = ("conv", "pool", "flat", "fc")
        return judge(cache, activations=activations, quantizable=("flat",), shared=[("conv", "pool", "flat")])

    served = fit(CalibrationCache({"conv": 0.5, "pool": 0.0, "fc": 1.0}))
    assert (served.fits, served.missing, served.unusable, served.uncovered) == (True, (), (), ())
    assert served.warnings == ("1 scale (pool) of no use as a range where Q/DQ needs none",)
    assert fit(CalibrationCache({"conv": 0.0, "pool": 0.0})).unusable == ("flat",)
    assert fit(CalibrationCache({"fc": 1.0})).missing == ("flat",)


def test_a_quantizable_tensor_that_is_no_activation_is_judged_like_any() -> None:
    fit = judge(CalibrationCache({"a": 1.0}), activations=("a",), quantizable=("a", "made"))
    assert fit.missing == ("made",)


def test_without_a_known_model_the_sidecar_is_not_compared() -> None:
    sidecar = replace(SIDECAR, model_sha256="", cache_sha256=CACHE.sha256)
    assert judged(CACHE, sidecar).fits
    sidecar = replace(SIDECAR, cache_sha256=CACHE.sha256)
    assert judge(CACHE, activations=ACTIVATIONS, quantizable=QUANTIZABLE, sidecar=sidecar).fits


def test_long_lists_are_cut() -> None:
    fit = judged(CACHE.with_scales({f"old{index}": 1.0 for index in range(9)}))
    assert fit.warnings == ("9 names (old0, old1, old2, ...) in the cache that the model does not know",)


def test_outliers_lie_three_decades_from_the_median() -> None:
    cache = CalibrationCache(
        {
            "a": 0.01,
            "b": 0.02,
            "c": 0.04,
            "low": 0.02 / 1010,
            "lowish": 0.02 / 990,
            "high": 0.02 * 1010,
            "highish": 0.02 * 990,
        }
    )
    assert remarks_of(cache) == {"low": ("outlier",), "high": ("largest", "outlier")}


def test_one_scale_or_only_zeros_have_no_outliers() -> None:
    assert remarks_of(CalibrationCache({"a": 1.0})) == {"a": ("largest",)}
    assert remarks_of(CalibrationCache({"a": 0.0, "b": 0.0})) == {"a": ("zero",), "b": ("zero",)}


def test_equal_largest_scales_are_all_marked() -> None:
    assert remarks_of(CalibrationCache({"conv": 1.0, "pool": 1.0, "fc": 0.5})) == {
        "conv": ("largest",),
        "pool": ("largest",),
    }


def test_outliers_of_real_caches(shared_data: Path) -> None:
    found = {
        path.name: [name for name, remarks in remarks_of(CalibrationCache.load(path)).items() if "outlier" in remarks]
        for path in sorted((shared_data / "caches").iterdir())
    }
    assert sum(map(len, found.values())) == 11
    assert found["NVIDIA-AI-IOT__deepstream_tao_apps__models_dssd_cal.bin"] == ["NMS_1"]
    assert found["mlperf_v0.7__closed_Altos_dlrm_tensorrt_calibrator.cache"] == ["index_input"]


def test_infinite_scales_of_a_real_cache(shared_data: Path) -> None:
    path = shared_data / "caches" / "mlperf_v0.5__closed_NVIDIA_gnmt_tensorrt_data_Int8CalibrationCache"
    remarks = remarks_of(CalibrationCache.load(path))
    layers = ("22) [Convolution]", "23) [Shuffle]", "25) [Unary]")
    assert [name for name in remarks if "infinite" in remarks[name]] == [
        f"(Unnamed Layer* {layer}_output" for layer in layers
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("TRT-8601-EntropyCalibration2\na: 3f800000\n", ()),
        ("TRT-101401-MinMaxCalibration\na: 3f800000\n", ()),
        ("TRT-7103-EntropyCalibration2\na: 3f800000\n", ("the header is old (TensorRT 7.1.3, EntropyCalibration2)",)),
        (
            "TRT-8XXX-EntropyCalibration2 \na: 0\n",
            ("the header 'TRT-8XXX-EntropyCalibration2 '", "spaces at the end of a line"),
        ),
        ("1\na: 3f800000\n", ("is of an odd form: a TensorRT calibrator may ignore the cache",)),
        ("TRT-8601-Percentile\na: 3f800000\n", ("the algorithm Percentile is none of TensorRT's",)),
        ("\ufeffTRT-8601-EntropyCalibration2\na: 0\n", ("a byte order mark stands before the header",)),
        ("TRT-8601-EntropyCalibration2\r\na: 3f800000\r\n", ("its lines end in CRLF",)),
        ("TRT-8601-EntropyCalibration2\r\n\r\na: 0\r\n", ("its lines end in CRLF", "blank lines")),
        ("TRT-8601-EntropyCalibration2\na: 3f800000\n\n", ("blank lines",)),
        ("TRT-8601-EntropyCalibration2\na: 3f800000", ("its last line has no end",)),
    ],
)
def test_odd_headers_and_layouts_are_told(text: str, said: tuple[str, ...]) -> None:
    oddities = oddities_of(CalibrationCache.parse(text))
    assert len(oddities) == len(said)
    assert all(part in oddity for part, oddity in zip(said, oddities, strict=True))
    assert judged(
        CalibrationCache.parse(text + ("" if text.endswith("\n") else "\n") + CACHE.dumps().decode().partition("\n")[2])
    ).fits


def test_a_large_cache_is_judged_in_one_pass() -> None:
    """Groups, stale and unusable names by the hundred thousand; work that grows with their square would not end."""
    names = [f"t{index}" for index in range(200_000)]
    cache = CalibrationCache({name: 0.0 if index % 2 else 0.5 for index, name in enumerate(names)})
    fit = judge(cache, activations=names[:100_000], quantizable=names[:100_000])
    assert (len(fit.stale), len(fit.unusable), len(fit.matched)) == (100_000, 50_000, 100_000)
    assert fit.errors == ("50000 quantizable tensors (t1, t3, t5, ...) with a scale of no use",)
    assert any("50000 scales (t100001," in line for line in fit.warnings)
    assert judge(cache, activations=names, quantizable=names, shared=[names]).fits
