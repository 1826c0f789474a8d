import re

import pytest

import trtcal
from calibrators.errors import TrtcalError
from trtcal.tasks.task import Task


@pytest.mark.parametrize(
    ("name", "kind", "adapter", "finds"),
    [
        ("auto", "auto", "", False),
        ("classify", "classify", "", False),
        ("outputs", "outputs", "", False),
        ("detect", "detect", "", True),
        ("detect:yolov8", "detect", "yolov8", True),
        ("segment", "segment", "", True),
        ("mine.toml", "own", "mine.toml", True),
        ("folder/mine.py:found", "own", "folder/mine.py:found", True),
    ],
)
def test_a_name_says_what_is_measured_and_who_reads_the_outputs(
    name: str, kind: str, adapter: str, finds: bool
) -> None:
    task = Task(name)
    assert (task.kind, task.adapter, task.finds) == (kind, adapter, finds)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("detekt", "there is no task 'detekt' (did you mean detect?)"),
        ("yolov8", "there is no task 'yolov8'"),
        ("", "there is no task ''"),
        ("detect:yolov88", "there is no adapter 'yolov88' of task detect (did you mean yolov8?)"),
        ("detect:semantic", "semantic is an adapter of task segment"),
        ("classify:yolov8", "task classify has no adapters: leave out :yolov8"),
    ],
)
def test_a_name_of_nothing_is_refused(name: str, said: str) -> None:
    with pytest.raises(TrtcalError, match=re.escape(said)):
        Task(name)


def test_annotations_and_confidence_go_with_tasks_that_find_something() -> None:
    with pytest.raises(TrtcalError, match="annotations are for detect, segment and keypoints, not for task auto"):
        Task(annotations="truth.json")
    for confidence in (0.0, 1.0, float("nan")):
        with pytest.raises(TrtcalError, match="the confidence must be above 0 and below 1"):
            Task("detect", confidence=confidence)


def test_the_digest_is_of_what_is_annotated(tmp_path) -> None:
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("0 .5 .5 .1 .1")
    first = Task("detect", annotations=tmp_path / "labels").digest
    (tmp_path / "labels" / "a.txt").write_text("1 .5 .5 .1 .1")
    assert Task("detect").digest == "" != first != Task("detect", annotations=tmp_path / "labels").digest


def test_it_is_public() -> None:
    assert trtcal.Task is Task


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"name": None}, "a task goes by its name, such as 'detect', not by a NoneType"),
        ({"annotations": 5}, "annotations are the path of a file or folder, not a int"),
        ({"confidence": "high"}, "the confidence must be a number, not a str"),
        ({"confidence": True}, "the confidence must be a number, not a bool"),
    ],
)
def test_values_of_another_type_are_refused(given, said: str) -> None:
    with pytest.raises(TrtcalError, match=re.escape(said)):
        Task(**{"name": "detect", **given})


def test_a_name_alone_is_no_task(shared_data) -> None:
    with pytest.raises(TrtcalError, match=re.escape("a str is no task: give trtcal.Task('detect')")):
        trtcal.evaluate(shared_data / "models" / "mnist_cnn.onnx", [], task="detect")
