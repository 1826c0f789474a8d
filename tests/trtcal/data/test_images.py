"""The loader: the same batches every time, decoded ahead, and nothing left behind."""

import gc
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from calibrators.batches import IMAGE, Array, Batch, TensorSpec, bind
from calibrators.errors import DataError
from trtcal.data.images import ImageLoader, open_images
from trtcal.data.preprocess import PRESETS, Preprocess

COLOUR = [TensorSpec("data", ("N", 3, 16, 16), np.dtype("float32"))]


def noise(seed: int, height: int = 20, width: int = 24) -> PIL.Image.Image:
    return PIL.Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """21 pictures in three classes of 12, 6 and 3."""
    root = tmp_path / "images"
    for label, (name, count) in enumerate({"ant": 12, "bee": 6, "cat": 3}.items()):
        (root / name).mkdir(parents=True)
        for index in range(count):
            noise(100 * label + index).save(root / name / f"{index:02d}.png")
    return root


@pytest.fixture(autouse=True)
def no_thread_stays_behind() -> Iterator[None]:
    yield
    gc.collect()
    assert not loading()


def loading() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("trtcal-images")]


def same(left: list[Batch], right: list[Batch]) -> bool:
    return all(
        a.names == b.names and sorted(a) == sorted(b) and all(np.array_equal(a[key], b[key]) for key in a)
        for a, b in zip(left, right, strict=True)
    )


def rows(loader: ImageLoader) -> dict[str, Array]:
    return {name: row for batch in loader for name, row in zip(batch.names, next(iter(batch.values())), strict=True)}


# --- folders


def test_batches_of_a_folder(folder: Path) -> None:
    loader = ImageLoader(folder, preprocess="raw", batch_size=8)
    batches = list(loader)
    assert [batch.size for batch in batches] == [8, 8, 5]
    assert len(loader) == 3
    assert loader.count == 21
    assert loader.names == tuple(name for batch in batches for name in batch.names) == tuple(sorted(loader.names))
    assert loader.class_names == ("ant", "bee", "cat")
    assert loader.labels is not None
    assert loader.labels.tolist() == [0] * 12 + [1] * 6 + [2] * 3
    assert np.array_equal(
        np.concatenate([batch.labels for batch in batches if batch.labels is not None]), loader.labels
    )
    assert all(list(batch) == [IMAGE] and batch[IMAGE].shape[1:] == (3, 20, 24) for batch in batches)
    assert np.array_equal(batches[0][IMAGE][0], PRESETS["raw"](noise(0)))
    assert loader.source == folder
    assert loader.preprocess == PRESETS["raw"].settled()
    assert loader.skipped == []


def test_every_iteration_gives_the_same(folder: Path) -> None:
    loader = ImageLoader(folder, preprocess="unit", count=10)
    first = list(loader)
    assert same(first, list(loader))
    assert same(first, list(ImageLoader(folder, preprocess="unit", count=10)))
    together = list(zip(loader, loader, strict=True))
    assert same([left for left, _ in together], first)
    assert same([right for _, right in together], first)


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_a_samples_numbers_do_not_depend_on_its_batch(folder: Path, batch_size: int) -> None:
    whole = rows(ImageLoader(folder, preprocess="imagenet", batch_size=21))
    some = rows(ImageLoader(folder, preprocess="imagenet", batch_size=batch_size, count=9, seed=5))
    assert len(some) == 9
    assert all(np.array_equal(whole[name], row) for name, row in some.items())


def test_sampling_keeps_the_classes_shares(folder: Path) -> None:
    loader = ImageLoader(folder, preprocess="raw", count=7)
    assert loader.labels is not None
    assert np.bincount(loader.labels).tolist() == [4, 2, 1]
    assert (loader.count, loader.available) == (7, 21)
    assert ImageLoader(folder, preprocess="raw", count=500).count == 21
    assert loader.names != ImageLoader(folder, preprocess="raw", count=7, seed=1).names
    assert loader.names == ImageLoader(folder, preprocess="raw", count=7, batch_size=3).names


def test_labels_of_a_csv(folder: Path) -> None:
    names = ImageLoader(folder, preprocess="raw").names
    path = folder / "labels.csv"
    path.write_text("file,label\n" + "".join(f"{name},{index}\n" for index, name in enumerate(names)))
    loader = ImageLoader(folder, preprocess="raw", labels=path, count=5)
    assert loader.labels is not None
    assert [names[label] for label in loader.labels] == list(loader.names)


def test_digest(folder: Path, tmp_path: Path) -> None:
    loader = ImageLoader(folder, preprocess="raw")
    assert loader.digest == ImageLoader(folder, preprocess="imagenet", batch_size=1, seed=9).digest
    assert len(loader.digest) == 64
    assert loader.digest != ImageLoader(folder, count=20).digest
    moved = folder.rename(tmp_path / "elsewhere")
    assert ImageLoader(moved).digest == loader.digest
    noise(999).save(moved / "bee" / "00.png")
    assert ImageLoader(moved).digest != loader.digest


def test_images_of_different_sizes_make_no_batch(tmp_path: Path) -> None:
    noise(0, 10, 12).save(tmp_path / "a.png")
    noise(1, 11, 12).save(tmp_path / "b.png")
    with pytest.raises(DataError) as error:
        list(ImageLoader(tmp_path, preprocess="raw"))
    said = f"{tmp_path / 'b.png'} gives 3x11x12 and {tmp_path / 'a.png'} 3x10x12, which make no batch: state a resize"
    assert said in str(error.value)
    assert [batch[IMAGE].shape for batch in ImageLoader(tmp_path, preprocess="raw", batch_size=1)] == [
        (1, 3, 10, 12),
        (1, 3, 11, 12),
    ]
    with pytest.raises(DataError, match=r"image .*a\.png: it is 10x12, smaller than the crop 11x11: state a resize"):
        list(ImageLoader(tmp_path, preprocess=Preprocess(crop=(11, 11)), on_bad_image="skip"))


# --- bad images


@pytest.fixture
def damaged(folder: Path) -> Path:
    """The folder with an empty, a truncated and a foreign file among its first ten."""
    (folder / "ant" / "01.png").write_bytes(b"")
    good = (folder / "ant" / "05.png").read_bytes()
    (folder / "ant" / "05.png").write_bytes(good[: len(good) // 2])
    (folder / "ant" / "08.png").write_text("words")
    return folder


def test_a_bad_image_is_an_error_that_names_it(damaged: Path) -> None:
    loader = ImageLoader(damaged, preprocess="raw", batch_size=4)
    with pytest.raises(DataError) as error:
        list(loader)
    assert str(error.value) == (
        f"cannot read image {damaged / 'ant' / '01.png'}: the file is empty; "
        "remove it, or leave such images out with --on-bad-image skip"
    )
    assert error.value.exit_code == 2
    assert not loading()


def test_bad_images_are_skipped_and_batches_stay_full(damaged: Path) -> None:
    loader = ImageLoader(damaged, preprocess="raw", batch_size=4, on_bad_image="skip")
    batches = list(loader)
    assert [batch.size for batch in batches] == [4, 4, 4, 4, 2]
    assert [name for name, _ in loader.skipped] == ["ant/01.png", "ant/05.png", "ant/08.png"]
    assert loader.skipped[0][1] == "the file is empty"
    assert "truncated" in loader.skipped[1][1]
    assert loader.skipped[2][1] == "it is no image, or its header is damaged"
    assert same(batches, list(loader))
    assert len(loader.skipped) == 3
    names = [name for batch in batches for name in batch.names]
    assert names == [name for name in loader.names if name not in dict(loader.skipped)]
    labels = np.concatenate([batch.labels for batch in batches if batch.labels is not None])
    assert [("ant", "bee", "cat")[label] for label in labels] == [name[:3] for name in names]
    whole = rows(ImageLoader(damaged, preprocess="raw", batch_size=1, on_bad_image="skip"))
    assert all(
        np.array_equal(whole[name], row)
        for batch in batches
        for name, row in zip(batch.names, batch[IMAGE], strict=True)
    )


def test_a_whole_batch_of_bad_images(folder: Path) -> None:
    for path in (folder / "ant").iterdir():
        path.write_text("words")
    batches = list(ImageLoader(folder, preprocess="raw", batch_size=4, on_bad_image="skip"))
    assert [batch.size for batch in batches] == [4, 4, 1]


def test_nothing_left(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_text("words")
    loader = ImageLoader(tmp_path, on_bad_image="skip")
    with pytest.raises(DataError, match=r"none of the 2 images in .* can be read; a\.jpg: it is no image"):
        list(loader)


def test_a_bomb_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 200)
    with pytest.raises(DataError, match=r"cannot read image .*00\.png: Image size \(480 pixels\) exceeds limit"):
        list(ImageLoader(folder, preprocess="raw"))


# --- threads


def test_threads_end_with_the_last_batch(folder: Path) -> None:
    iterator = iter(ImageLoader(folder, preprocess="raw", batch_size=2))
    next(iterator)
    assert loading()
    list(iterator)
    assert not loading()


def test_threads_end_where_the_iterator_is_left(folder: Path) -> None:
    for _ in ImageLoader(folder, preprocess="raw", batch_size=1):
        break
    gc.collect()
    assert not loading()
    iterator = iter(ImageLoader(folder, preprocess="raw", batch_size=1))
    next(iterator)
    del iterator
    gc.collect()
    assert not loading()


# --- arrays


def test_arrays_as_they_are(tmp_path: Path) -> None:
    features = np.random.default_rng(0).normal(size=(30, 1, 7)).astype(np.float32)
    labels = np.repeat([0, 1, 2], 10)
    np.savez(tmp_path / "x.npz", features=features, labels=labels)
    inputs = [TensorSpec("input_1", ("N", 1, 7), np.dtype("float32"))]
    loader = open_images(tmp_path / "x.npz", inputs, batch_size=8)
    assert loader.preprocess == PRESETS["none"]
    batches = list(loader)
    assert np.array_equal(np.concatenate([batch["input_1"] for batch in batches]), features)
    assert same(batches, list(loader))
    some = open_images(tmp_path / "x.npz", inputs, count=9, seed=2)
    assert some.labels is not None
    assert some.labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    for batch in some:
        for name, row in zip(batch.names, batch["input_1"], strict=True):
            assert np.array_equal(row, features[int(name.split()[1])])
    np.save(tmp_path / "x.npy", features)
    np.save(tmp_path / "y.npy", labels)
    flat = open_images(tmp_path / "x.npy", inputs, labels=tmp_path / "y.npy", batch_size=8)
    assert same(list(flat), batches)
    assert flat.labels is not None
    assert flat.labels.tolist() == labels.tolist()


def test_several_inputs(tmp_path: Path) -> None:
    left, right = np.ones((5, 2), np.float32), np.arange(5, dtype=np.int64)
    np.savez(tmp_path / "x.npz", left=left, right=right)
    inputs = [TensorSpec("left", ("N", 2), np.dtype("float32")), TensorSpec("right", ("N",), np.dtype("int64"))]
    batches = list(open_images(tmp_path / "x.npz", inputs, batch_size=2))
    assert [bind(batch, inputs)["right"].tolist() for batch in batches] == [[0, 1], [2, 3], [4]]
    assert [sorted(batch) for batch in ImageLoader(tmp_path / "x.npz", preprocess="none")] == [["left", "right"]]


def test_images_in_arrays_are_preprocessed(tmp_path: Path) -> None:
    pictures = np.stack([np.asarray(noise(index)) for index in range(6)])
    np.savez(tmp_path / "x.npz", images=pictures, labels=np.arange(6, dtype=np.uint8))
    (batch,) = open_images(tmp_path / "x.npz", COLOUR, preprocess="cifar10")
    preprocess = PRESETS["cifar10"].for_model(COLOUR)
    assert batch["data"].shape == (6, 3, 16, 16)
    assert all(np.array_equal(row, preprocess(noise(index))) for index, row in enumerate(batch["data"]))
    (raw,) = ImageLoader(tmp_path / "x.npz", preprocess="none")
    assert np.array_equal(raw[IMAGE], pictures)


def test_arrays_that_are_no_images_want_none(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((3, 8), np.float32))
    with pytest.raises(
        DataError, match=r"x\.npy holds float32 of 3x8, and images are uint8 of .* use --preprocess none"
    ):
        ImageLoader(tmp_path / "x.npy", preprocess="imagenet")
    assert ImageLoader(tmp_path / "x.npy").preprocess.as_is
    with pytest.raises(DataError, match=r"x\.npy: the model takes data:Nx3x16x16, not 1x8"):
        open_images(tmp_path / "x.npy", COLOUR)


# --- mistakes


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"batch_size": 0}, "the batch size must be at least 1, not 0"),
        ({"count": 0}, "the count must be at least 1, not 0"),
        ({"on_bad_image": "ignore"}, "on_bad_image must be one of error, skip, not 'ignore'"),
    ],
)
def test_bad_options(folder: Path, options: dict[str, object], said: str) -> None:
    with pytest.raises(DataError, match=said):
        ImageLoader(folder, **options)  # type: ignore[arg-type]


def test_sources_that_are_none(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for source, said in (
        (tmp_path / "absent", "there is no .*absent: give a folder of images, or an .npz or .npy file"),
        (folder / "ant" / "00.png", r"00\.png is neither a folder of images nor an \.npz or \.npy file"),
        (tmp_path / "empty", "no image in .*empty: files are read that end in"),
    ):
        with pytest.raises(DataError, match=said) as error:
            ImageLoader(source)
        assert error.value.exit_code == 2


# --- another choice from the same source


def test_a_second_choice_without_the_first(folder: Path) -> None:
    first = ImageLoader(folder, preprocess="imagenet", count=7, seed=5)
    second = first.sampled(7, without=first.names)
    assert not set(first.names) & set(second.names)
    assert second.count == 7
    assert {name.split("/")[0] for name in second.names} == {"ant", "bee", "cat"}
    assert second.labels is not None
    assert [second.class_names[label] for label in second.labels] == [name.split("/")[0] for name in second.names]
    assert [name for batch in second for name in batch.names] == list(second.names)
    assert second.digest != first.digest
    assert first.sampled(7).names == first.names
    assert first.sampled(None, without=first.names).count == 14


def test_a_second_choice_for_a_model_is_the_same_one(folder: Path) -> None:
    first = ImageLoader(folder, preprocess="imagenet", count=7)
    second = first.sampled(7, without=first.names)
    assert second.for_model(COLOUR).names == second.names
    assert second.for_model(COLOUR).digest == second.digest


def test_what_is_skipped_is_each_ones_own(folder: Path) -> None:
    (folder / "ant" / "00.png").write_bytes(b"no image")
    loader = ImageLoader(folder, on_bad_image="skip")
    other = loader.sampled(None, without=["ant/00.png"])
    assert sum(batch.size for batch in loader) == sum(batch.size for batch in other) == 20
    assert [name for name, _ in loader.skipped] == ["ant/00.png"]
    assert other.skipped == []


def test_nothing_left_is_refused(folder: Path) -> None:
    loader = ImageLoader(folder)
    with pytest.raises(DataError, match=r"none of the 21 samples of .* is left: give more"):
        loader.sampled(5, without=loader.names)
    with pytest.raises(DataError, match="the count must be at least 1, not 0"):
        loader.sampled(0)


def test_contents_are_of_the_chosen_samples(folder: Path) -> None:
    (folder / "cat" / "copy.png").write_bytes((folder / "ant" / "03.png").read_bytes())
    loader = ImageLoader(folder)
    contents = dict(zip(loader.names, loader.contents, strict=True))
    assert contents["cat/copy.png"] == contents["ant/03.png"]
    assert len(set(loader.contents)) == 21
    assert len(loader.sampled(4).contents) == 4
