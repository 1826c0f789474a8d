"""`trtcal doctor` as users meet it."""

import json
import platform


def test_tables(command):
    code, out, err = command("doctor")
    assert (code, err) == (0, "")
    for text in (
        platform.python_version(),
        "GPU",
        "NVIDIA driver",
        "onnxruntime",
        "tensorrt_rtx",
        "calibrate",
        "build",
    ):
        assert text in out


def test_json(command):
    code, out, err = command("doctor", "--json")
    assert (code, err) == (0, "")
    value = json.loads(out)
    assert value["python"] == platform.python_version()
    assert "driver" in value["nvidia"]
    assert value["libraries"]["onnxruntime"]["installed"]
    calibrate = next(each for each in value["commands"] if each["command"] == "calibrate")
    assert calibrate["ready"]


def test_telemetry_of_onnx_runtime_is_told(command, monkeypatch):
    _, out, _ = command("doctor")
    assert "telemetry off" in " ".join(out.split())
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    _, out, _ = command("doctor")
    assert "telemetry off" not in " ".join(out.split())
