"""What a choice must reach: bounds that mean something, to the image; and whether other images may tell otherwise."""

import math

import pytest

from calibrators.errors import DataError, ModelError, TrtcalError
from trtcal.measure.distortion import Distortion
from trtcal.measure.measures import Score, Share
from trtcal.precision.target import Target


def labelled(lost, gained, *, total=1000, right=900):
    return Score(
        samples=total,
        classes=10,
        top1=Share(right - lost + gained, total),
        agreement=Share(total - lost - gained, total),
        lost=lost,
        gained=gained,
        distortions={"y": Distortion(100.0, 1.0)},
    )


@pytest.mark.parametrize(
    "bound, lost, gained, holds",
    [(0.5, 5, 0, True), (0.5, 6, 0, False), (0.5, 8, 3, True), (0.0, 3, 3, True), (0.0, 1, 0, False), (0, 0, 4, True)],
)
def test_a_drop_to_the_image(bound, lost, gained, holds):
    assert Target("max-drop", bound).reaches(labelled(lost, gained)) is holds


def test_a_bound_that_binary_fractions_miss():
    assert Target("max-drop", 0.35).reaches(labelled(7, 0, total=2000))
    assert not Target("max-drop", 0.35).reaches(labelled(8, 0, total=2000))


def test_an_accuracy_to_the_image():
    assert Target("target-accuracy", 89.6).reaches(labelled(4, 0))
    assert not Target("target-accuracy", 89.6).reaches(labelled(5, 0))


def test_without_labels_a_drop_is_of_agreement():
    score = Score(samples=200, classes=10, agreement=Share(199, 200))
    assert Target("max-drop", 0.5).reaches(score)
    assert not Target("max-drop", 0.4).reaches(score)


def test_a_signal_to_noise_ratio():
    score = Score(samples=1, distortions={"y": Distortion(100.0, 1.0)})
    assert Target("target-sqnr", 20.0).reaches(score)
    assert not Target("target-sqnr", 20.1).reaches(score)
    assert not Target("target-sqnr", 20.0).reaches(Score(samples=1, distortions={"y": Distortion(1.0, math.nan)}))
    assert Target("target-sqnr", 20.0).reaches(Score(samples=1, distortions={"y": Distortion(1.0, 0.0)}))


def test_one_of_them_is_given():
    assert Target.of(0.5, None, None) == Target("max-drop", 0.5)
    assert Target.of(None, 91.0, None) == Target("target-accuracy", 91.0)
    assert Target.of(None, None, 20.0) == Target("target-sqnr", 20.0)
    with pytest.raises(TrtcalError, match="no target is given: choose one of --max-drop"):
        Target.of()
    with pytest.raises(TrtcalError, match="2 targets are given: choose one"):
        Target.of(0.5, 91.0)


@pytest.mark.parametrize(
    "kind, value",
    [
        ("max-drop", -1),
        ("max-drop", math.nan),
        ("max-drop", 101),
        ("target-accuracy", 0),
        ("target-accuracy", 0.91),
        ("target-accuracy", 100.1),
        ("target-accuracy", math.nan),
        ("target-sqnr", math.inf),
        ("target-sqnr", math.nan),
    ],
)
def test_what_means_nothing_is_refused(kind, value):
    with pytest.raises(TrtcalError, match="must be"):
        Target(kind, value)


def test_what_is_not_measured_is_refused():
    Target("max-drop", 1).require_measured("top-1")
    Target("max-drop", 1).require_measured("agreement")
    Target("target-sqnr", 1).require_measured("SQNR")
    Target("target-accuracy", 2).require_measured("top-1")
    with pytest.raises(ModelError, match="give --target-sqnr"):
        Target("max-drop", 1).require_measured("SQNR")
    with pytest.raises(DataError, match="give --labels"):
        Target("target-accuracy", 90).require_measured("agreement")


def test_a_bound_within_the_noise_is_told():
    near, far = labelled(20, 12), labelled(4, 4)
    assert "the drop of 0.80 points has a 95 % interval of" in Target("max-drop", 1).within_noise(near)
    assert Target("max-drop", 1).within_noise(far) is None
    assert "the top-1 of 89.20 % has" in Target("target-accuracy", 89).within_noise(near)
    assert Target("target-accuracy", 80).within_noise(near) is None
    unlabelled = Score(samples=1000, classes=10, agreement=Share(995, 1000))
    assert "the agreement of 99.50 % has" in Target("max-drop", 0.6).within_noise(unlabelled)
    assert Target("max-drop", 3).within_noise(unlabelled) is None
    assert Target("target-sqnr", 10).within_noise(near) is None
