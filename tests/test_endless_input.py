"""What has no end, or no beginning, is neither read for ever nor waited for."""

import os
import threading

import pytest

from calibrators.cache.sidecar import Sidecar
from calibrators.cache.text import CalibrationCache
from calibrators.errors import TrtcalError
from calibrators.files import opened
from calibrators.statistics.file import Statistics
from engines.inspection.layer_times import read_times
from trtcal.config.settings import QuantConfig
from trtcal.conversion import read
from trtcal.data.labels import read_csv
from trtcal.tasks.truth.opening import opened_truth

READERS = {
    "a cache": CalibrationCache.load,
    "a side-car": Sidecar.load,
    "statistics": Statistics.load,
    "any format": read,
    "a stated format": lambda path: read(path, "ppq"),
    "labels": lambda path: read_csv(path, ["a.png"]),
    "a profile": read_times,
    "annotations": lambda path: opened_truth(
        path, names=["a.png"], sizes=lambda name: (4, 4), classes=1, class_names=(), kind="detect"
    ),
}

each = pytest.mark.parametrize("reader", READERS.values(), ids=READERS)


def refused(reader, path):
    said = []

    def attempt():
        try:
            reader(path)
        except TrtcalError as error:
            said.append(str(error))

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(60)
    assert said, "it is still reading"
    assert str(path) in said[0]
    assert "\n" not in said[0]


@each
def test_a_pipe_that_nobody_writes_to(reader, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    refused(reader, tmp_path / "pipe")


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/urandom"])
def test_statistics_from_a_device(device):
    refused(Statistics.load, device)


def test_annotations_from_a_device():
    refused(READERS["annotations"], "/dev/zero")


def test_a_side_car_without_end():
    refused(Sidecar.load, "/dev/zero")


def test_a_profile_without_end():
    refused(read_times, "/dev/zero")


def test_a_configuration_without_end_or_beginning(tmp_path):
    refused(QuantConfig.load, "/dev/zero")
    os.mkfifo(tmp_path / "pipe")
    assert QuantConfig.load(tmp_path / "pipe") == QuantConfig()  # as of an empty file


def test_labels_from_a_device(monkeypatch):
    monkeypatch.setattr("trtcal.data.labels.MOST_BYTES", 1 << 16)
    refused(READERS["labels"], "/dev/zero")


def test_a_pipe_that_somebody_writes_to_slowly():
    source, sink = os.pipe()
    writer = threading.Timer(0.2, lambda: (os.write(sink, b"late"), os.close(sink)))
    writer.start()
    with opened(f"/dev/fd/{source}") as file:
        assert file.read() == b"late"
    writer.join()
    os.close(source)
