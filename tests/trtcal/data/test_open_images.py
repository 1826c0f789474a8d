"""Loaders for a model: the usual preprocessing, what does not fit, and real models on real images."""

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from calibrators.batches import TensorSpec, bind
from calibrators.errors import DataError
from tests.engine_files import write_record
from trtcal.data.geometry import Resize
from trtcal.data.images import ImageLoader, open_images
from trtcal.data.preprocess import PRESETS, Preprocess


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five pictures."""
    root = tmp_path / "images"
    root.mkdir()
    for index in range(5):
        pixels = np.random.default_rng(index).integers(0, 256, (20, 24, 3), dtype=np.uint8)
        PIL.Image.fromarray(pixels).save(root / f"{index}.png")
    return root


@pytest.mark.parametrize(
    ("shape", "dtype", "preset"),
    [
        (("N", 3, 16, 16), "float32", "imagenet"),
        (("N", 16, 16, 1), "float32", "unit"),
        (("N", 3, 16, 16), "uint8", "raw"),
    ],
)
def test_the_usual_preprocessing_of_a_model(
    folder: Path, shape: tuple[int | str, ...], dtype: str, preset: str
) -> None:
    inputs = [TensorSpec("data", shape, np.dtype(dtype))]
    loader = open_images(folder, inputs)
    assert loader.preprocess.name == preset
    assert loader.preprocess == PRESETS[preset].for_model(inputs)
    for batch in loader:
        bound = bind(batch, inputs)
        assert bound["data"].dtype == dtype


def test_the_usual_preprocessing_without_a_model(folder: Path, tmp_path: Path) -> None:
    assert ImageLoader(folder).preprocess.name == "imagenet"
    np.save(tmp_path / "x.npy", np.zeros((2, 8, 8), np.uint8))
    assert ImageLoader(tmp_path / "x.npy", preprocess=None).preprocess.name == "imagenet"
    grey = [TensorSpec("data", (1, 1, 8, 8), np.dtype("float32"))]
    assert open_images(tmp_path / "x.npy", grey).preprocess.name == "unit"
    vector = [TensorSpec("data", (1, 8, 8), np.dtype("uint8"))]
    assert open_images(tmp_path / "x.npy", vector).preprocess.name == "none"


def test_a_preprocessing_that_does_not_fit(folder: Path) -> None:
    grey = [TensorSpec("data", ("N", 1, 16, 16), np.dtype("float32"))]
    with pytest.raises(DataError, match="input data:Nx1x16x16 takes one channel, not RGB"):
        open_images(folder, grey, preprocess="imagenet")
    two = [*grey, TensorSpec("mask", ("N", 4), np.dtype("float32"))]
    with pytest.raises(DataError, match=r"the model has 2 inputs \(data, mask\), and images go to a model with one"):
        open_images(folder, two)
    with pytest.raises(DataError, match=r"preprocess none feeds arrays, and .* holds images: choose a preset"):
        open_images(folder, grey, preprocess="none")
    with pytest.raises(DataError, match=r"no preprocessing 'imagnet' \(did you mean 'imagenet'"):
        ImageLoader(folder, preprocess="imagnet")


def test_a_toml_file(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text('mean = 127\nstd = 128\n[resize]\nmode = "exact"\nsize = 16\n')
    colour = [TensorSpec("data", ("N", 3, 16, 16), np.dtype("float32"))]
    loader = open_images(folder, colour, preprocess=tmp_path / "p.toml")
    (batch,) = loader
    assert batch["data"].shape == (5, 3, 16, 16)
    assert -1 <= batch["data"].min() < -0.5 < 0.5 < batch["data"].max() <= 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"model": object()}, "the model of batches: no path but of type object; give its path, or inputs="),
        ({"labels": np.zeros(5)}, "labels: no path but of type ndarray; give"),
    ],
)
def test_what_is_no_path_is_one_line(folder: Path, arguments: dict[str, object], said: str) -> None:
    with pytest.raises(DataError, match=said):
        ImageLoader(folder, **arguments)  # type: ignore[arg-type]


def test_images_in_memory_are_one_line(folder: Path) -> None:
    for images in (np.zeros((4, 1, 8, 8)), ImageLoader(folder), [folder]):
        said = f"images: no path but of type {type(images).__name__}; give a folder, or the path of an .npz"
        with pytest.raises(DataError, match=said):
            ImageLoader(images)  # type: ignore[arg-type]


def test_a_resize_without_a_size_tells_of_the_model(folder: Path) -> None:
    said = r"no model fixes one: state resize\.size, or name the model, as in ImageLoader\(\.\.\., model="
    with pytest.raises(DataError, match=said):
        ImageLoader(folder, preprocess=Preprocess(resize=Resize("letterbox")))


@pytest.mark.parametrize(("most", "size"), [([8, 3, 96, 64], (96, 64)), ([8, 3, 512, 512], (224, 224))])
def test_an_engine_of_one_size_has_images_of_that_size(
    folder: Path, tmp_path: Path, most: list[int], size: tuple[int, int]
) -> None:
    """Its axes are open in the network, and its profile alone has the size; of several sizes it takes none."""
    engine = tmp_path / "model.engine"
    engine.write_bytes(b"an engine")
    shape, least = [-1, 3, -1, -1], [1, 3, 96, 64]
    write_record(
        engine,
        "tensorrt",
        "10.16.0",
        inputs=({"name": "data", "shape": shape, "type": "float32"},),
        shapes={"data": {"min": least, "opt": least, "max": most}},
    )
    (batch,) = ImageLoader(folder, model=engine, preprocess="imagenet")
    assert batch["data"].shape[2:] == size


# --- real models on real images


@pytest.mark.parametrize(
    ("model", "images", "preprocess", "top1"),
    [
        ("cifar10_resnet20", "cifar10_test_2000", "cifar10", 91.55),
        ("mlperf_tiny_resnet8", "cifar10_test_2000", "raw", 86.80),
        ("mnist_cnn", "mnist_test_2000", "raw", 98.40),
        ("lenet_mnist", "mnist_test_2000", "unit", 96.15),
        ("lenet_mnist", "mnist_test_2000", "mnist", 96.15),
        ("mlperf_tiny_kws_dscnn", "kws01_1000", None, 91.5),
    ],
)
def test_top1_of_real_models(shared_data: Path, model: str, images: str, preprocess: str | None, top1: float) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(shared_data / "models" / f"{model}.onnx")
    inputs = [TensorSpec(node.name, tuple(node.shape), np.dtype("float32")) for node in session.get_inputs()]
    source = shared_data / "images" / f"{images}.npz"
    batch_size = inputs[0].shape[0] if isinstance(inputs[0].shape[0], int) else 50
    loader = open_images(source, inputs, preprocess=preprocess, batch_size=batch_size)
    right = 0
    for batch in loader:
        (scores,) = session.run(None, bind(batch, inputs))
        right += int((scores.argmax(axis=1) == batch.labels).sum())
    assert 100 * right / loader.count == pytest.approx(top1, abs=1e-9)


def test_a_detector_finds_the_faces(shared_data: Path, tmp_path: Path) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(shared_data / "models" / "ultraface_rfb_320.onnx", options)
    node = next(node for node in session.get_inputs() if node.name == "input")
    inputs = [TensorSpec(node.name, tuple(node.shape), np.dtype("float32"))]
    (tmp_path / "ultraface.toml").write_text('channels = "RGB"\nmean = 127\nstd = 128\n[resize]\nmode = "exact"\n')
    faces = shared_data / "images" / "faces"
    for batch in open_images(faces, inputs, preprocess=tmp_path / "ultraface.toml", batch_size=1):
        scores = session.run(["scores"], bind(batch, inputs))[0]
        assert scores[..., 1].max() > 0.9, batch.names
