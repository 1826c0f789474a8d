"""Arrays: what is a sample, a label, an image, and what is none."""

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from calibrators.batches import IMAGE, TensorSpec
from calibrators.errors import DataError
from trtcal.data.arrays import ArrayFile

FLOATS = np.arange(24, dtype=np.float32).reshape(4, 1, 6)
PICTURES = np.arange(96, dtype=np.uint8).reshape(4, 4, 2, 3)


def spec(name: str, *shape: int | str) -> TensorSpec:
    return TensorSpec(name, shape, np.dtype("float32"))


def npz(folder: Path, **arrays: np.ndarray) -> Path:
    path = folder / "x.npz"
    np.savez(path, **arrays)
    return path


def npy(folder: Path, array: np.ndarray) -> Path:
    path = folder / "x.npy"
    np.save(path, array)
    return path


def test_one_array_is_the_only_inputs(tmp_path: Path) -> None:
    path = npz(tmp_path, features=FLOATS, labels=np.array([1, 0, 2, 1]))
    known = ArrayFile.read(path, inputs=[spec("input_1", "N", 1, 6)])
    assert list(known.arrays) == ["input_1"]
    assert known.labels is not None
    assert known.labels.tolist() == [1, 0, 2, 1]
    unknown = ArrayFile.read(path)
    assert list(unknown.arrays) == [IMAGE]
    assert unknown.names == ("sample 0", "sample 1", "sample 2", "sample 3")


def test_several_arrays_keep_their_names(tmp_path: Path) -> None:
    path = npz(tmp_path, a=FLOATS, b=FLOATS[:, 0])
    inputs = [spec("a", "N", 1, 6), spec("b", "N", 6)]
    file = ArrayFile.read(path, inputs=inputs)
    file.check_fed(inputs)
    taken = file.take([2, 0])
    assert np.array_equal(taken["a"], FLOATS[[2, 0]])
    assert np.array_equal(taken["b"], FLOATS[[2, 0], 0])


def test_an_input_called_labels_is_an_input(tmp_path: Path) -> None:
    path = npz(tmp_path, x=FLOATS, labels=np.arange(4))
    file = ArrayFile.read(path, inputs=[spec("x", "N", 1, 6), TensorSpec("labels", ("N",), np.dtype("int64"))])
    assert sorted(file.arrays) == ["labels", "x"]
    assert file.labels is None


def test_an_array_of_labels_alone_is_samples(tmp_path: Path) -> None:
    assert ArrayFile.read(npz(tmp_path, labels=np.arange(4))).labels is None


def test_stated_labels_go_before_those_in_the_file(tmp_path: Path) -> None:
    path = npz(tmp_path, x=FLOATS, labels=np.arange(4))
    np.save(tmp_path / "labels.npy", np.array([9, 8, 7, 6]))
    file = ArrayFile.read(path, labels=tmp_path / "labels.npy")
    assert file.labels is not None
    assert file.labels.tolist() == [9, 8, 7, 6]


def test_an_npy_stays_on_the_disk(tmp_path: Path) -> None:
    file = ArrayFile.read(npy(tmp_path, FLOATS))
    assert isinstance(file.arrays[IMAGE], np.memmap)
    taken = file.take([1])[IMAGE]
    assert not isinstance(taken.base, np.memmap)
    taken[:] = 0  # A batch is the consumer's own.
    assert np.array_equal(file.arrays[IMAGE], FLOATS)


@pytest.mark.parametrize(
    ("array", "images"),
    [
        (PICTURES, True),
        (PICTURES[..., 0], True),
        (PICTURES[..., :1], True),
        (np.zeros((2, 5, 5, 4), np.uint8), True),
        (PICTURES[..., :2], False),
        (PICTURES.astype(np.float32), False),
        (PICTURES[:, :, 0, 0], False),
    ],
)
def test_what_are_images(tmp_path: Path, array: np.ndarray, images: bool) -> None:
    file = ArrayFile.read(npy(tmp_path, array))
    assert file.holds_images is images
    if images:
        file.check_images()
        shown = np.asarray(file.image(1))
        assert np.array_equal(shown.reshape(array[1].shape), array[1])
    else:
        with pytest.raises(DataError) as error:
            file.check_images()
        shape = "x".join(map(str, array.shape))
        said = f"x.npy holds {array.dtype} of {shape}, and images are uint8 of N,H,W or N,H,W,C; to feed arrays"
        assert said in str(error.value)


def test_arrays_that_do_not_fit_the_model(tmp_path: Path) -> None:
    path = npz(tmp_path, a=FLOATS, c=FLOATS)
    inputs = [spec("a", "N", 1, 6), spec("b", "N", 6)]
    with pytest.raises(DataError, match=r"x\.npz: the data holds a, c, but the model's inputs are a, b"):
        ArrayFile.read(path, inputs=inputs).check_fed(inputs)
    path = npz(tmp_path, a=FLOATS)
    inputs = [spec("a", "N", 1, 7)]
    with pytest.raises(DataError, match=r"x\.npz: the model takes a:Nx1x7, not 1x1x6"):
        ArrayFile.read(path, inputs=inputs).check_fed(inputs)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"a": FLOATS, "b": FLOATS[:3]}, "the arrays hold different numbers of samples (a 4, b 3)"),
        ({"a": FLOATS[:0]}, "array a: it holds no sample; samples are on the first axis"),
        ({"a": np.float32(3)}, "array a: it holds no sample"),
        ({"a": np.array(["x", "y"])}, "array a: <U1 is no number that a model takes"),
        ({"a": np.array([{}, []], object)}, "array a of {path} holds Python objects, not plain numbers"),
        ({"a": FLOATS, "labels": np.arange(3)}, "array labels: int64 of 3, not one class number for each of 4 samples"),
        ({"a": FLOATS, "labels": -np.arange(4)}, "array labels: the class number -3 is below 0"),
        ({}, "holds no array: save one per model input, named as the input"),
    ],
)
def test_what_are_no_samples(tmp_path: Path, arrays: dict[str, np.ndarray], said: str) -> None:
    path = npz(tmp_path, **arrays)
    with pytest.raises(DataError) as error:
        ArrayFile.read(path)
    assert said.format(path=path) in str(error.value)
    assert str(path) in str(error.value)
    assert error.value.exit_code == 2


def test_damaged_and_foreign_files(tmp_path: Path) -> None:
    good = npz(tmp_path, a=np.random.default_rng(0).normal(size=(50, 50))).read_bytes()
    (tmp_path / "short.npz").write_bytes(good[: len(good) // 2])
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 0xFF
    (tmp_path / "flipped.npz").write_bytes(flipped)
    (tmp_path / "words.npz").write_text("words")
    (tmp_path / "words.npy").write_text("words")
    (tmp_path / "empty.npz").touch()
    (tmp_path / "empty.npy").touch()
    for path in sorted(tmp_path.glob("[!x]*.np?")):
        with pytest.raises(DataError, match="it is damaged, or no NumPy file") as error:
            ArrayFile.read(path)
        assert str(path) in str(error.value)


def test_the_wrong_ending(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(npz(tmp_path, a=FLOATS).read_bytes())
    with pytest.raises(DataError, match=r"a\.npy is no \.npy file: save it with numpy\.save, or call it \.npz"):
        ArrayFile.read(tmp_path / "a.npy")
    (tmp_path / "b.npz").write_bytes(npy(tmp_path, FLOATS).read_bytes())
    with pytest.raises(DataError, match=r"b\.npz is no \.npz file: save it with numpy\.savez"):
        ArrayFile.read(tmp_path / "b.npz")


def test_an_npy_of_no_samples_or_objects(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x\.npy: it holds no sample"):
        ArrayFile.read(npy(tmp_path, FLOATS[:0]))
    with pytest.raises(DataError, match=r"x\.npy holds Python objects, not plain numbers"):
        ArrayFile.read(npy(tmp_path, np.array([{}, 1], object)))


def test_content_tells_samples_apart(tmp_path: Path) -> None:
    file = ArrayFile.read(npz(tmp_path, a=FLOATS % 6, b=FLOATS[:, 0]))
    assert file.content(0) != file.content(1)
    assert ArrayFile.read(npz(tmp_path, a=FLOATS % 6)).content(0) == ArrayFile.read(npy(tmp_path, FLOATS % 6)).content(
        3
    )


def with_header(shape: tuple[int, ...]) -> bytes:
    """An .npy whose header claims a shape."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return file.getvalue() + bytes(16)


def zipped(path: Path, name: str, content: bytes, *, flags: int = 0) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, content)
    data = bytearray(path.read_bytes())
    data[6] |= flags  # of the file's own header
    data[data.rindex(b"PK\x01\x02") + 8] |= flags  # of the directory
    path.write_bytes(data)
    return path


def test_hostile_files_are_one_line(tmp_path: Path) -> None:
    negative = tmp_path / "negative.npy"
    negative.write_bytes(with_header((-3, 4)))
    cases = {
        zipped(tmp_path / "huge.npz", "a.npy", with_header((10**15,))): "its arrays do not fit in memory",
        negative: "it is damaged, or no NumPy file",
        zipped(tmp_path / "text.npz", "a.txt", b"words"): "holds a.txt, which is no array: save it with numpy.savez",
        zipped(tmp_path / "locked.npz", "a.npy", with_header((4,)), flags=1): "is encrypted",
    }
    for path, said in cases.items():
        with pytest.raises(DataError) as error:
            ArrayFile.read(path)
        assert said in str(error.value)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["p.npy", "p.npz"])
def test_a_pipe_is_refused_before_it_is_opened(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match=rf"cannot read .*{name}: it is no file"):
        ArrayFile.read(tmp_path / name)
    np.save(tmp_path / "x.npy", FLOATS)
    with pytest.raises(DataError, match=rf"labels .*{name}: it is no \.npy file"):
        ArrayFile.read(tmp_path / "x.npy", labels=tmp_path / name)
