"""The demo's verdict: words that follow from the figures."""

from pathlib import Path

import pytest

from trtcal.demo.run import Places
from trtcal.demo.verdict import Figures, next_step, verdict
from trtcal.measure.measures import Score, Share
from trtcal.tasks.measuring.result import TaskResult
from trtcal.tasks.summary import Summary


def figures(*, lost=0, gained=0, latencies=(10.0, 31.1), engines=(767_000, 2_916_400)):
    """Of 600 images, of which FP32 gets 598 right."""
    fp32 = Score(samples=600, top1=Share(598, 600), agreement=Share(600, 600))
    int8 = Score(samples=600, top1=Share(598 - lost + gained, 600), lost=lost, gained=gained)
    return Figures(scores=(fp32, int8), latencies=latencies, engines=engines, allowed=1.0)


def test_what_a_cpu_shows_of_the_demo():
    assert verdict(figures()) == (
        "INT8 loses no accuracy: 99.67 % of the images are right, 99.67 % with FP32. On this CPU it takes 3.1 times as "
        "long, and its engine is larger (2,916 kB against 767 kB): what computes INT8 fast are units of the GPU, and "
        "in a network this small, INT8 adds more code than it saves in weights. What INT8 gains in speed shows on a "
        "GPU, with a model of your own."
    )


@pytest.mark.parametrize(
    "lost, gained, said",
    [
        (0, 0, "INT8 loses no accuracy: 99.67 % of the images are right, 99.67 % with FP32."),
        (1, 1, "INT8 loses no accuracy: 99.67 %"),
        (0, 2, "INT8 loses no accuracy: 100.00 % of the images are right, 99.67 % with FP32."),
        (3, 0, "INT8 loses 0.50 points of top-1, of the 1.00 allowed: 99.17 % of the images are right, 99.67 %"),
        (6, 0, "INT8 loses 1.00 points of top-1, of the 1.00 allowed"),
        (7, 0, "INT8 loses 1.17 points of top-1, more than the 1.00 allowed: 98.50 %"),
    ],
)
def test_accuracy(lost, gained, said):
    found = figures(lost=lost, gained=gained)
    assert verdict(found).startswith(said)
    assert verdict(found).endswith("lose the accuracy." if lost == 7 else "with a model of your own.")


@pytest.mark.parametrize(
    "latencies, engines, said",
    [
        ((10, 5), (900, 400), "On this CPU it is 2.0 times as fast, and its engine is smaller (0 kB against 1 kB)."),
        ((10, 10.5), (5000, 5000), "it takes as long as FP32, and its engine is of the same size (5 kB against 5 kB)."),
        ((10, 20), (9000, 4000), "(4 kB against 9 kB): what computes INT8 fast are units of the GPU. What"),
        ((20, 10), (4000, 9000), "(9 kB against 4 kB): in a network this small, INT8 adds more code than"),
    ],
)
def test_speed_and_size(latencies, engines, said):
    assert said in verdict(figures(latencies=latencies, engines=engines))


def test_the_next_command():
    places = Places(Path("some where"))
    assert next_step(figures(), places, gpu=False) == ("inspect", "some where/digits.int8.engine")
    assert next_step(figures(), places, gpu=True) == (
        "benchmark",
        "some where/digits.fp32.engine",
        "some where/digits.int8.engine",
    )
    command, *words = next_step(figures(lost=9), places, gpu=True)
    assert (command, words[0]) == ("sensitivity", "some where/digits.onnx")


def test_of_scenes_it_says_how_they_are_judged():
    result = TaskResult("mAP 50-95", 70.0, 80.0)
    scores = (
        Score(samples=500, task=Summary(TaskResult("mAP 50-95", 80.0), (0.0, 0.0))),
        Score(samples=500, task=Summary(result, (9.0, 11.0))),
    )
    found = Figures(scores=scores, latencies=(10.0, 31.1), engines=(1, 2), allowed=1.0)
    words = next_step(found, Places(Path("scenes"), "scenes"), gpu=False)
    assert words[-6:] == ("--preprocess", "unit", "--task", "detect", "--annotations", "scenes/annotations.json")
    assert verdict(found).startswith("INT8 loses 10.00 points of mAP 50-95, more than the 1.00 allowed: mAP 50-95")
