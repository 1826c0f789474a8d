"""Mean intersection over union is scikit-learn's."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, jaccard_score

from calibrators.errors import DataError
from tests.trtcal.tasks.random_maps import SIZE, maps
from tests.trtcal.tasks.random_scenes import evidence, found, sample
from trtcal.tasks.found import ClassMap

UNKNOWN = ClassMap(np.full(SIZE, -1))


def of(*rows):
    return ClassMap(np.array(rows, np.int64))


def one(ours, known, reference=None, **more):
    return evidence([sample("a", ours, known, reference, known.classes.shape)], "pixels", **more).result


class TestScikitLearn:
    @pytest.mark.parametrize("seed", range(5))
    @pytest.mark.parametrize("whose", ["found", "reference"])
    def test_random_maps(self, seed, whose):
        samples = maps(seed)
        known = np.concatenate([each.known.classes.ravel() for each in samples])
        seen = np.concatenate([getattr(each, whose).classes.ravel() for each in samples])[known >= 0]
        known = known[known >= 0]
        result = evidence(samples, "pixels").result
        assert result.measure == "mIoU"
        assert (result.value if whose == "found" else result.reference) == pytest.approx(
            100 * jaccard_score(known, seen, average="macro", zero_division=0), abs=1e-9
        )
        classes = jaccard_score(known, seen, average=None, labels=np.unique(known))
        by_class = result.by_class if whose == "found" else result.reference_by_class
        assert list(by_class.values()) == pytest.approx(list(100 * classes), abs=1e-9)
        assert list(by_class) == [str(number) for number in np.unique(known)]
        if whose == "found":
            assert result.parts == {"pixel accuracy": pytest.approx(100 * accuracy_score(known, seen), abs=1e-9)}
        assert result.objects == len(known)

    def test_many_classes_and_large_numbers(self):
        random = np.random.default_rng(0)
        known, seen = random.integers(100, 300, (2, *SIZE))
        result = one(ClassMap(seen), ClassMap(known))
        assert result.value == pytest.approx(100 * jaccard_score(known.ravel(), seen.ravel(), average="macro"))


class TestWhatCounts:
    def test_names_of_classes(self):
        result = one(of([0, 1, 1, 7]), of([0, 1, 0, 7]), classes=("sky", "road"))
        assert result.by_class == {"sky": 50, "road": 50, "7": 100}

    def test_nothing_is_counted_as_lost(self):
        result = one(of([0, 1]), of([0, 1]), of([0, 1]))
        assert (result.lost, result.extra, result.moved, result.unusable) == (None, None, None, 0)

    def test_pixels_that_neither_model_sees_count_nowhere(self):
        """Such as what was cropped away."""
        result = one(of([0, -1, 1, 1]), of([0, 1, 1, -1]), of([0, -1, 1, 0]))
        assert (result.value, result.objects, result.unusable) == (100, 2, 0)

    def test_pixels_that_the_float_model_alone_sees_are_wrong(self):
        result = one(of([0, -1, 1, 1]), of([0, 1, 1, 1]), of([0, 1, 1, 1]))
        assert result.parts == {"pixel accuracy": 75}
        assert (result.unusable, result.reference) == (1, 100)

    def test_a_single_class(self):
        assert one(of([0, 0]), of([0, 0]), of([0, 0])).value == 100
        assert one(of([0, -1]), of([0, 0]), of([0, 0])).parts == {"pixel accuracy": 50}

    def test_agreement_of_a_model_with_itself(self):
        samples = [replace(each, found=each.reference, known=each.reference) for each in maps(1)]
        result = evidence(samples, "pixels", annotated=False).result
        assert (result.measure, result.value, result.reference, result.drop) == ("agreement mIoU", 100, 100, 0)


class TestMisfits:
    @pytest.mark.parametrize(("annotated", "who"), [(True, "no pixel is annotated"), (False, "the float model gives")])
    def test_no_pixel_is_known(self, annotated, who):
        made = evidence([sample("a", UNKNOWN, UNKNOWN, UNKNOWN, SIZE)] * 1, "pixels", annotated=annotated)
        for measure in (lambda: made.result, made.drop_interval):
            with pytest.raises(DataError, match=rf"^{who}.* in any of the 1 image\(s\), a among them"):
                measure()

    def test_boxes(self):
        with pytest.raises(DataError, match="image a: classes of pixels are to be compared, and there are boxes"):
            evidence([sample("a", found(), UNKNOWN, None, SIZE)], "pixels").result  # noqa: B018

    def test_a_map_of_another_size(self):
        with pytest.raises(DataError, match="image a: a map of 1x2 pixels, and the image has 24x32"):
            evidence([sample("a", of([0, 1]), UNKNOWN, None, SIZE)], "pixels").result  # noqa: B018
