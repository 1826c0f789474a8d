"""The images that changed most: their order, and their SQNR by the groups of all images."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibrators.batches import TensorSpec
from calibrators.errors import TrtcalError
from trtcal.measure.changed import ChangedImage, changed_images, groups_of, most_changed, passes, require_worst
from trtcal.measure.measures import score

NAN, INF = math.nan, math.inf


def names(count):
    return [f"{place}.png" for place in range(count)]


def test_what_changed():
    def change(before, now, label):
        return ChangedImage("x", 20.0, before, now, label).change

    assert change(1, 2, 1) == "lost"
    assert change(1, 2, 2) == "gained"
    assert change(1, 2, 3) == change(1, 2, None) == change(1, None, None) == "class"
    assert change(1, None, 1) == "lost"
    assert change(1, 1, 1) == change(1, 1, 2) == change(None, None, None) == "outputs"


def test_lost_before_gained_before_another_class_before_the_lowest_sqnr_and_ties_by_name():
    images = [
        ChangedImage("b", 5.0, 1, 1, 1),
        ChangedImage("a", 5.0, 1, 1, 1),
        ChangedImage("nan", NAN, 1, 1, 1),
        ChangedImage("other", 40.0, 1, 2, 0),
        ChangedImage("gained", 41.0, 1, 2, 2),
        ChangedImage("lost", 42.0, 1, 2, 1),
        ChangedImage("lost, rough", 12.0, 1, 2, 1),
    ]
    order = ["lost, rough", "lost", "gained", "other", "nan", "a", "b"]
    assert [image.name for image in most_changed(images, 9)] == order
    assert [image.name for image in most_changed(images[::-1], 3)] == order[:3]


@given(st.permutations(range(20)), st.integers(1, 25), st.integers(1, 20))
def test_parts_give_what_the_whole_gives(order, most, size):
    rng = np.random.default_rng(0)
    images = [ChangedImage(str(place), float(rng.integers(0, 5)), 1, int(rng.integers(1, 3)), 1) for place in range(20)]
    kept = ()
    for start in range(0, 20, size):
        kept = most_changed((*kept, *(images[place] for place in order[start : start + size])), most)
    assert kept == most_changed(images, most)


def test_classes_and_labels_by_hand():
    reference = np.array([[3.0, 1, 0], [0, 2, 1], [0, 2, 1], [1, 0, 0]])
    outputs = np.array([[1.0, 3, 0], [0, 1, 2], [0, 2, 1], [NAN, 0, 0]])
    found = changed_images(names(4), {"y": outputs}, {"y": reference}, labels=np.array([0, 2, 1, 1]))
    assert [(each.name, each.before, each.now, each.label, each.change) for each in found] == [
        ("0.png", 0, 1, 0, "lost"),
        ("1.png", 1, 2, 2, "gained"),
        ("3.png", 0, None, 1, "class"),
    ], "what is the same is left out"
    assert found[0].sqnr == pytest.approx(10 * math.log10(10 / 8))
    assert math.isnan(found[2].sqnr)
    assert found[2].to_dict() == {
        "image": "3.png", "change": "class", "label": 1, "reference_class": 0, "class": None, "sqnr_db": None,
    }  # fmt: skip


def test_the_sqnr_of_an_image_is_of_its_worst_output():
    reference = {"boxes": np.full((2, 5, 4), 100.0), "scores": np.full((2, 5, 2), 0.5), "size": np.full(2, 8.0)}
    outputs = {**reference, "boxes": reference["boxes"] + 1, "scores": reference["scores"].copy()}
    outputs["scores"][1] *= 1.1
    first, second = changed_images(names(2), outputs, reference)
    assert (first.sqnr, second.sqnr) == (pytest.approx(40), pytest.approx(20))


def boxes_and_scores(samples):
    """Two numbers in pixels beside two probabilities: far too few to tell them apart in one image."""
    rng = np.random.default_rng(1)
    return np.concatenate([rng.uniform(50, 600, (samples, 2, 3)), rng.random((samples, 2, 3))], axis=1)


def test_few_values_of_an_image_are_grouped_as_those_of_all_images_are():
    reference = boxes_and_scores(100)
    outputs = reference + np.array([[[1.0], [1.0], [0.0], [0.0]]])
    outputs[7] = reference[7] * np.array([[1.0], [1.0], [0.0], [0.0]])  # its scores are gone
    whole = score({"y": reference}, reference={"y": reference}, samples=100)
    groups = groups_of(whole)
    assert groups == {"y": (1, [[0, 1], [2, 3]])}
    (worst,) = most_changed(changed_images(names(100), {"y": outputs}, {"y": reference}, groups=groups), 1)
    assert (worst.name, worst.sqnr) == ("7.png", 0)
    (hidden,) = most_changed(changed_images(names(100), {"y": outputs}, {"y": reference}), 1)
    assert hidden.name != "7.png"


def test_an_output_of_all_images_together_counts_for_each():
    reference, outputs = {"y": np.array([3.0, 4.0, 0.0])}, {"y": np.array([3.0, 4.0, 0.5])}
    assert [each.sqnr for each in changed_images(names(2), outputs, reference)] == [pytest.approx(20)] * 2


def test_outputs_of_another_size_count_as_lost_where_there_are_no_others():
    reference, outputs = {"picked": np.ones((3, 2))}, {"picked": np.ones((2, 2))}
    (image,) = changed_images(names(1), outputs, reference, sized={"picked"})
    assert image.sqnr == pytest.approx(10 * math.log10(6 / 10))
    dense = {"dense": np.ones((1, 4, 4))}
    assert changed_images(names(1), {**outputs, **dense}, {**reference, **dense}, sized={"picked"}) == []


def spec(*shape):
    return TensorSpec("y", shape, np.dtype(np.float32))


def test_only_what_is_no_plain_classifier_takes_two_passes():
    assert passes([spec("N", 10)], 5) == passes([spec(1, 1000, 1, 1)], 5) == passes([spec("N", 6, 50)], None) == 1
    assert passes([spec("N", 6, 50)], 5) == passes([spec("N", 10), spec("N", 10)], 5) == 2
    assert passes([spec("N", 6, "boxes")], 5) == 2


def test_naming_none_or_without_a_reference_is_refused():
    require_worst(1, compared=True)
    with pytest.raises(TrtcalError, match="must be 1 or more, not 0"):
        require_worst(0, compared=True)
    with pytest.raises(TrtcalError, match="--worst needs something to compare with"):
        require_worst(3, compared=False)
