"""Sizes: closed forms, and that every fitting ends in the size it was asked for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibrators.errors import DataError
from trtcal.data.geometry import Resize, check_crop, fitted, result_size

sizes = st.tuples(st.integers(1, 3000), st.integers(1, 3000))


@pytest.mark.parametrize(
    ("resize", "image", "scaled"),
    [
        (Resize("short-side", 256), (375, 500), (256, 341)),  # int(256 * 500 / 375) as torchvision computes it
        (Resize("short-side", 256), (500, 375), (341, 256)),
        (Resize("short-side", 256), (256, 256), (256, 256)),
        (Resize("exact", (240, 320)), (10, 1000), (240, 320)),
        (Resize("letterbox", (640, 640)), (720, 1280), (360, 640)),
        (Resize("letterbox", (640, 640)), (1, 5000), (1, 640)),
    ],
)
def test_scaled(resize: Resize, image: tuple[int, int], scaled: tuple[int, int]) -> None:
    assert resize.scaled(image) == scaled


@given(image=sizes, box=sizes)
def test_a_letterbox_fits_and_touches_two_sides(image: tuple[int, int], box: tuple[int, int]) -> None:
    height, width = Resize("letterbox", box).scaled(image)
    assert height <= box[0]
    assert width <= box[1]
    assert height == box[0] or width == box[1]


@given(image=sizes, short=st.integers(1, 1000))
def test_short_side_is_the_short_side(image: tuple[int, int], short: int) -> None:
    assert min(Resize("short-side", short).scaled(image)) == short


@pytest.mark.parametrize(
    ("model", "short"), [((224, 224), 256), ((299, 299), 342), ((32, 32), 37), ((240, 320), 366), ((1, 1), 1)]
)
def test_short_side_keeps_its_ratio_to_the_crop(model: tuple[int, int], short: int) -> None:
    assert fitted(Resize("short-side", 256), (224, 224), model) == (Resize("short-side", short), model)


@given(
    resize=st.one_of(
        st.none(),
        st.builds(Resize, st.just("short-side"), st.one_of(st.none(), st.integers(1, 999))),
        st.builds(Resize, st.sampled_from(["exact", "letterbox"]), st.one_of(st.none(), sizes)),
    ),
    model=sizes,
)
def test_fitting_ends_in_the_models_size(resize: Resize | None, model: tuple[int, int]) -> None:
    crop = None
    if resize and isinstance(resize.size, int):
        crop = (resize.size, resize.size)
    after = fitted(resize, crop, model)
    assert result_size(*after) == model
    check_crop(*after)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"mode": "shortside"}, "resize.mode must be one of short-side, exact, letterbox, not 'shortside'"),
        ({"mode": "exact", "interpolation": "linear"}, "resize.interpolation must be one of nearest, bilinear"),
        ({"mode": "short-side", "size": (2, 3)}, "mode short-side is one number of pixels"),
        ({"mode": "exact", "size": 224}, "mode exact is a height and a width"),
        ({"mode": "letterbox", "size": (0, 5)}, "mode letterbox is a height and a width"),
        ({"mode": "letterbox", "fill": 256}, "resize.fill must be an integer from 0 to 255, not 256"),
        ({"mode": "exact", "fill": 3}, "resize.fill belongs to mode letterbox"),
    ],
)
def test_nonsense_is_refused(arguments: dict[str, object], said: str) -> None:
    with pytest.raises(DataError) as error:
        Resize(**arguments)  # type: ignore[arg-type]
    assert said in str(error.value)


def test_a_crop_larger_than_the_resize_is_refused() -> None:
    with pytest.raises(DataError, match="crop 299x299 is larger than what resize short side 256 bilinear leaves"):
        check_crop(Resize("short-side", 256), (299, 299))
    with pytest.raises(DataError, match="crop 224x320 is larger"):
        check_crop(Resize("exact", (256, 256)), (224, 320))


def test_a_size_that_nobody_fixed_is_refused() -> None:
    with pytest.raises(DataError, match=r"resize letterbox has no size, and no model fixes one: state resize\.size"):
        Resize("letterbox").scaled((10, 10))
