"""trtcal's calibrators on NVIDIA's base classes, called as TensorRT's C++ calls them.

What is not real here is the builder that calls, and the GPU, whose memory is the host's (tests.calibrators.device).
"""

import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import trtcal
from calibrators.batches import TensorSpec
from calibrators.cache.text import CalibrationCache, version_number
from calibrators.errors import BuildError, CacheMismatchError, DataError
from tests.calibrators.builder import Builder, from_c
from tests.calibrators.device import FakeCuda, fake_cuda
from tests.contract import calls
from tests.contract.calibration import header
from tests.engines.networks import classifier

NAMES = ("EntropyCalibrator2", "MinMaxCalibrator", "EntropyCalibrator", "LegacyCalibrator")
FLOAT = np.dtype(np.float32)
SPECS = [TensorSpec("x", (2, 3), FLOAT), TensorSpec("y", (2, 1), FLOAT)]
MODEL = "a" * 64


@pytest.fixture(params=NAMES)
def kind(request: pytest.FixtureRequest, trt: Any) -> Any:
    if not hasattr(trt, "IInt8Calibrator"):
        pytest.skip(f"TensorRT {trt.__version__} has no calibrators")
    return getattr(trtcal, request.param)


@pytest.fixture
def cuda() -> Iterator[FakeCuda]:
    with fake_cuda() as made:
        yield made


def data(samples: int = 6) -> list[dict[str, Any]]:
    x = np.arange(samples * 3, dtype=np.float32).reshape(-1, 3)
    return [{"y": x[:, :1] + 0.5, "x": x}]


def written(trt: Any, kind: Any) -> bytes:
    return f"{header(trt.__version__, kind.algorithm)}\nx: 3c010a14\ny: 3d000000\n".encode()


def test_they_are_calibrators_of_tensorrt_s(kind: Any, trt: Any) -> None:
    calibrator = kind(data())
    assert isinstance(calibrator, getattr(trt, f"IInt8{kind.__name__}"))
    assert isinstance(calibrator, trt.IInt8Calibrator) and kind.calibrates
    assert header(trt.__version__, kind.algorithm) == f"TRT-{version_number(trt.__version__)}-{kind.algorithm}"


def test_each_knows_its_algorithm_as_tensorrt_does(kind: Any, trt: Any) -> None:
    named = calls.get_algorithm(kind(data())).name
    assert named.replace("_", "").lower() == kind.algorithm.lower()


def test_a_calibration(kind: Any, trt: Any, cuda: FakeCuda, tmp_path: Path) -> None:
    seen: list[bytes] = []

    def taken(names: list[str], addresses: list[int]) -> None:
        assert names == ["y", "x"]
        seen.extend(cuda.read(address, size) for address, size in zip(addresses, (8, 24), strict=True))

    path = tmp_path / "m.cache"
    calibrator = kind(data(), cache=path, cuda=cuda)
    calibrator.prepare(SPECS, MODEL)
    assert calls.get_batch_size(calibrator) == 2
    text = written(trt, kind)
    assert Builder(names=["y", "x"], taken=taken, writes=text, calls=calls).calibrate(calibrator)
    cache = calibrator.finish()
    assert path.read_bytes() == text == cache.dumps()
    (batch,) = data()
    assert b"".join(seen[0::2]) == batch["y"].tobytes() and b"".join(seen[1::2]) == batch["x"].tobytes()
    assert (calibrator.served, calibrator.planned) == (3, 3)

    again = kind(cache=path)
    again.prepare(SPECS, MODEL)
    builder = Builder(calls=calls, takes_cache=lambda given: given == text)
    assert builder.calibrate(again) and "get_batch" not in builder.asked
    assert again.finish() == cache


def test_int64_is_read_as_the_widest_integer_that_tensorrt_has(kind: Any, trt: Any, cuda: FakeCuda) -> None:
    read_as = np.dtype(np.int64 if hasattr(trt, "int64") else np.int32)
    assert read_as == np.int64 or trt.__version__.startswith("8.")
    words = np.arange(6).reshape(2, 3) - 3
    seen: list[bytes] = []
    calibrator = kind([words], cuda=cuda)
    calibrator.prepare([TensorSpec("words", (2, 3), np.dtype(np.int64))])
    Builder(
        names=["words"],
        writes=written(trt, kind),
        taken=lambda names, addresses: seen.append(cuda.read(addresses[0], 6 * read_as.itemsize)),
        calls=calls,
    ).calibrate(calibrator)
    calibrator.finish()
    assert seen == [words.astype(read_as).tobytes()]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.integers(1, 4))
def test_every_sample_arrives_once_and_in_order(sizes: list[int], size: int) -> None:
    if not trtcal.EntropyCalibrator2.calibrates:
        pytest.skip("this TensorRT has no calibrators")
    samples = np.arange(sum(sizes) * 3, dtype=np.float32).reshape(-1, 3)
    with fake_cuda() as cuda:
        calibrator = trtcal.EntropyCalibrator2(iter(np.split(samples, np.cumsum(sizes)[:-1])), cuda=cuda)
        calibrator.prepare([TensorSpec("x", (size, 3), FLOAT)])
        seen: list[bytes] = []
        Builder(calls=calls, taken=lambda names, addresses: seen.append(cuda.read(addresses[0], size * 12))).calibrate(
            calibrator
        )
        whole = sum(sizes) // size
        assert b"".join(seen) == samples[: whole * size].tobytes()
        if sum(sizes) % size:
            with pytest.raises(DataError, match="would be left over"):
                calibrator.finish()
        else:
            assert calibrator.finish() is not None


@pytest.mark.parametrize("error", [OSError("broken image"), KeyboardInterrupt(), SystemExit(3)])
def test_no_error_is_lost_or_printed(
    kind: Any, trt: Any, error: BaseException, cuda: FakeCuda, tmp_path: Path, capfd: Any
) -> None:
    class Failing:
        def __iter__(self) -> Iterator[Any]:
            yield from data(2)
            raise error

    calibrator = kind(Failing(), cache=tmp_path / "m.cache", cuda=cuda)
    calibrator.prepare(SPECS)
    builder = Builder(names=["x", "y"], writes=written(trt, kind), calls=calls)
    assert builder.calibrate(calibrator) and builder.asked[-1] == "write_calibration_cache"
    with pytest.raises(type(error)) as raised:
        calibrator.finish()
    assert raised.value is error
    assert list(tmp_path.iterdir()) == []
    assert "Exception caught" not in capfd.readouterr().err


def test_ctrl_c_while_tensorrt_computes_is_not_lost(kind: Any, cuda: FakeCuda, capfd: Any) -> None:
    """It comes out before the callback's first line, and the bindings swallow it."""
    calibrator = kind(data(), cuda=cuda)
    calibrator.prepare(SPECS)
    assert calls.get_batch(calibrator, ["x", "y"]) is not None
    function, this = _get_batch(calibrator)
    addresses, names = (ctypes.c_void_p * 2)(), (ctypes.c_char_p * 2)(b"x", b"y")
    assert not from_c(function, this, addresses, names, 2)
    assert "Exception caught in get_batch(): KeyboardInterrupt" in capfd.readouterr().err
    assert calls.get_batch(calibrator, ["x", "y"]) is None
    with pytest.raises(KeyboardInterrupt):
        calibrator.finish()


def _get_batch(calibrator: Any) -> tuple[Any, int]:
    """IInt8Calibrator::getBatch of the C++ object, to be called from C, and the object's address."""
    this = ctypes.c_void_p.from_address(id(calibrator) + calls._POINTER_OF_INSTANCE).value
    assert this is not None
    table = ctypes.c_void_p.from_address(this).value
    assert table is not None
    address = ctypes.c_void_p.from_address(table + (calls._FIRST + 1) * 8).value
    assert address is not None
    arguments = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32)
    return ctypes.CFUNCTYPE(ctypes.c_bool, *arguments)(address), this


def by_hand(trt: Any, calibrator: Any, *, size: int | None = 2, model: Any = None) -> tuple[Any, Any, Any]:
    """Builder, network and config of who builds without `trtcal.build_engine`; calibrates `size` images at a time."""
    builder = trt.Builder(trt.Logger())
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH))
    parser = trt.OnnxParser(network, trt.Logger())
    assert parser.parse((model or classifier()).SerializeToString())
    config = builder.create_builder_config()
    config.set_flag(trt.BuilderFlag.INT8)
    config.int8_calibrator = calibrator
    profile = builder.create_optimization_profile()
    profile.set_shape("image", (1, 3, 16, 16), (size or 2, 3, 16, 16), (8, 3, 16, 16))
    config.add_optimization_profile(profile)
    if size is not None:
        config.set_calibration_profile(profile)
    return builder, network, config


def test_a_whole_build_by_hand(kind: Any, trt: Any, world: Any, cuda: FakeCuda, tmp_path: Path) -> None:
    path = tmp_path / "m.cache"
    calibrator = kind([np.zeros((4, 3, 16, 16), np.float32)], cache=path, cuda=cuda)
    builder, network, config = by_hand(trt, calibrator)
    calibrator.prepare([TensorSpec("image", (2, 3, 16, 16), FLOAT)])
    assert builder.build_serialized_network(network, config) is not None
    cache = calibrator.finish()
    assert cache is not None and cache == CalibrationCache.load(path) and "image" in cache
    assert world.calibrated.count("get_batch") == 3


class TestABlockByHand:
    """`with calibrator.calibrating(network, config)` around the build."""

    def test_does_what_prepare_and_finish_do(
        self, kind: Any, trt: Any, world: Any, cuda: FakeCuda, tmp_path: Path
    ) -> None:
        path = tmp_path / "m.cache"
        calibrator = kind([np.zeros((4, 3, 16, 16), np.float32)], cache=path, cuda=cuda)
        for batches in (3, 0):  # the second build reads the cache
            builder, network, config = by_hand(trt, calibrator)
            world.calibrated.clear()
            with calibrator.calibrating(network, config):
                assert builder.build_serialized_network(network, config) is not None
            assert world.calibrated.count("get_batch") == batches
            assert calibrator.finish() == CalibrationCache.load(path)
        assert cuda.taken == cuda.pinned_taken == 0

    def test_a_model_of_fixed_sizes_needs_no_profile(self, kind: Any, trt: Any, world: Any, cuda: FakeCuda) -> None:
        fixed = classifier()
        fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
        calibrator = kind([np.zeros((4, 3, 16, 16), np.float32)], cuda=cuda)
        builder, network, config = by_hand(trt, calibrator, size=None, model=fixed)
        with calibrator.calibrating(network, config):
            builder.build_serialized_network(network, config)
        assert calibrator.served == 2

    def test_without_a_calibration_profile_says_what_to_set(self, kind: Any, trt: Any, world: Any) -> None:
        calibrator = kind([np.zeros((4, 3, 16, 16), np.float32)])
        _, network, config = by_hand(trt, calibrator, size=None)
        said = r"input image has free sizes, .* config\.set_calibration_profile\(profile\)"
        with pytest.raises(BuildError, match=said), calibrator.calibrating(network, config):
            pytest.fail("the block was entered")

    @pytest.mark.parametrize("then", [None, RuntimeError("no engine")])
    def test_what_a_callback_raises_comes_out(
        self, kind: Any, trt: Any, world: Any, cuda: FakeCuda, tmp_path: Path, then: Exception | None
    ) -> None:
        """Also where who builds raises because there is no engine."""
        error = OSError("broken image")

        class Failing:
            def __iter__(self) -> Iterator[Any]:
                yield np.zeros((2, 3, 16, 16), np.float32)
                raise error

        calibrator = kind(Failing(), cache=tmp_path / "m.cache", cuda=cuda)
        builder, network, config = by_hand(trt, calibrator)
        with pytest.raises(OSError, match="broken image"), calibrator.calibrating(network, config):
            builder.build_serialized_network(network, config)
            if then is not None:
                raise then
        assert list(tmp_path.iterdir()) == []
        assert cuda.taken == cuda.pinned_taken == 0

    def test_an_error_of_the_block_is_its_own(self, kind: Any, trt: Any, world: Any, cuda: FakeCuda) -> None:
        calibrator = kind([np.zeros((4, 3, 16, 16), np.float32)], cuda=cuda)
        _, network, config = by_hand(trt, calibrator)
        with pytest.raises(ZeroDivisionError), calibrator.calibrating(network, config):
            raise ZeroDivisionError
        assert cuda.taken == cuda.pinned_taken == 0

    def test_a_calibrator_that_nobody_asked_is_told_of(self, kind: Any, trt: Any, world: Any, cuda: FakeCuda) -> None:
        calibrator = kind([np.zeros((4, 3, 16, 16), np.float32)], cuda=cuda)
        builder, network, config = by_hand(trt, calibrator)
        config.clear_flag(trt.BuilderFlag.INT8)
        with (
            pytest.raises(BuildError, match=r"never asked the calibrator: .*set config\.int8_calibrator and INT8"),
            calibrator.calibrating(network, config),
        ):
            builder.build_serialized_network(network, config)


def test_a_cache_of_another_tensorrt_is_refused_or_read_under_this_one_s_header(
    kind: Any, trt: Any, tmp_path: Path
) -> None:
    path = tmp_path / "m.cache"
    path.write_bytes(b"TRT-7103-EntropyCalibration2\nx: 3c010a14\n")
    with pytest.raises(CacheMismatchError, match=r"is a cache of TensorRT 7\.1\.3, EntropyCalibration2, which"):
        kind(cache=path).prepare(SPECS)
    calibrator = kind(cache=path, allow_version_mismatch=True)
    calibrator.prepare(SPECS)
    assert (
        calls.read_calibration_cache(calibrator) == f"{header(trt.__version__, kind.algorithm)}\nx: 3c010a14\n".encode()
    )
    assert calibrator.finish() == CalibrationCache.load(path)


def test_what_is_not_prepared_is_printed_by_the_bindings(kind: Any, capfd: Any) -> None:
    assert calls.get_batch(kind(data()), ["x"]) is None
    assert "is not prepared: build within `with calibrator.calibrating(" in capfd.readouterr().err


def test_the_legacy_calibrator_answers_what_tensorrt_asks_it_besides(trt: Any, capfd: Any) -> None:
    if not hasattr(trt, "IInt8LegacyCalibrator"):
        pytest.skip(f"TensorRT {trt.__version__} has no calibrators")
    calibrator = trtcal.LegacyCalibrator(data())
    first = calls._FIRST + 5 if calls._FIRST else 7  # before TensorRT 10 two destructors stand in between
    quantile, cutoff, read, write = range(first, first + 4)
    assert calls._call(calibrator, quantile, ctypes.c_double) == 0.9999
    assert calls._call(calibrator, cutoff, ctypes.c_double) == 1.0
    size = ctypes.c_size_t(0)
    assert calls._call(calibrator, read, ctypes.c_void_p, (ctypes.c_void_p, ctypes.byref(size))) is None
    calls._call(calibrator, write, None, (ctypes.c_void_p, None), (ctypes.c_size_t, 0))
    printed = capfd.readouterr()
    assert "Exception" not in printed.err + printed.out


def test_where_there_are_none_they_hold_batches_and_method(trt: Any) -> None:
    if hasattr(trt, "IInt8Calibrator"):
        pytest.skip(f"TensorRT {trt.__version__} has calibrators")
    for name in NAMES:
        calibrator = getattr(trtcal, name)(data())
        assert calibrator.method in ("entropy", "minmax", "percentile") and not calibrator.calibrates
        with pytest.raises(BuildError, match=f"cannot calibrate, as TensorRT {trt.__version__} has no calibrators"):
            calibrator.prepare(SPECS)
