"""What `trtcal doctor` says of each TensorRT: its version, and whether it has calibrators."""

from trtcal.machine.doctor import probe


def test_the_module_is_found_with_what_it_has(trt, version, major):
    found = probe("tensorrt")
    assert (found.installed, found.problem) == (True, "")
    assert found.version.startswith(version)
    assert found.facts == {"calibrators": major <= 10}
    assert found.facts["calibrators"] == hasattr(trt, "IInt8EntropyCalibrator2")
