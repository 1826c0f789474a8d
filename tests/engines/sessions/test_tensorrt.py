"""Engine sessions: `tests.session_cases` and `tests.session_error_cases` against the real classes of TensorRT for RTX.

Its real engines are loaded too. The contract tests run the same cases against every version of TensorRT. No GPU: what
an engine computes is a double's.
"""

import json
import re
import shutil
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from calibrators.errors import BuildError, DeviceError, EngineError, MissingDependencyError
from calibrators.installation import pip_install
from engines.build.builder import build_engine
from engines.sessions.onnxruntime import OnnxRuntimeSession, open_session
from engines.sessions.runtime import load_engine
from engines.sessions.tensorrt import TensorRTSession
from tests.engine_double import doubling
from tests.engine_files import engine_files
from tests.session_cases import *  # noqa: F403 - the cases
from tests.session_error_cases import *  # noqa: F403


@pytest.fixture
def trt(rtx):
    return rtx


@pytest.fixture
def engine_of(trt, monkeypatch, tmp_path):
    return engine_files(trt, monkeypatch, tmp_path)


def relu():
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A real engine of TensorRT for RTX."""
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed (pip install 'trtcal[rtx]')")
    path = tmp_path_factory.mktemp("engine") / "relu.engine"
    build_engine(relu(), output=path, precision="fp32")
    return path


class TestRealEngines:
    """With the real library: what it says of files that it cannot load, and of a machine without a GPU."""

    def check(self, path, kind, message):
        with pytest.raises(kind, match=message) as caught:
            open_session(path)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)

    @pytest.mark.parametrize("with_sidecar", [True, False])
    def test_without_a_gpu(self, real, tmp_path, with_sidecar):
        path = tmp_path / "relu.engine"
        shutil.copy(real, path)
        if with_sidecar:
            shutil.copy(f"{real}.json", f"{path}.json")
        try:
            with open_session(path) as session:
                pytest.skip(f"there is a GPU here, and it runs: {session.inputs}")
        except DeviceError as error:
            assert "\n" not in str(error)
            assert str(path) in str(error)
            assert "TensorRT-RTX" in str(error)
            assert "trtcal doctor" in str(error)

    def test_cut_short(self, real, tmp_path):
        for name, size in (("half.engine", real.stat().st_size // 2), ("head.engine", 16)):
            (tmp_path / name).write_bytes(real.read_bytes()[:size])
            self.check(tmp_path / name, EngineError, "was cut short: copy it again")
        shutil.copy(f"{real}.json", f"{tmp_path / 'half.engine'}.json")
        self.check(tmp_path / "half.engine", EngineError, r"SHA-256 differs\): it was cut short or replaced")

    @pytest.mark.parametrize("content", [b"no engine at all" * 50, b"PK\x03\x04" + bytes(500)])
    def test_no_engine(self, real, tmp_path, content):
        (tmp_path / "none.plan").write_bytes(content)
        self.check(tmp_path / "none.plan", EngineError, "is no engine that TensorRT-RTX .* can load")

    def test_a_side_car_that_is_none(self, real, tmp_path):
        shutil.copy(real, tmp_path / "a.engine")
        (tmp_path / "a.engine.json").write_text("{}")
        with pytest.raises(BuildError, match="is no side-car of an engine"):
            open_session(tmp_path / "a.engine")


class TestWhichTensorRT:
    def test_the_side_car_says(self, real, tmp_path, monkeypatch):
        shutil.copy(real, tmp_path / "a.engine")
        record = json.loads(real.with_name("relu.engine.json").read_text())
        record["backend"], record["versions"]["tensorrt"] = "tensorrt", "10.3.0"
        (tmp_path / "a.engine.json").write_text(json.dumps(record))
        monkeypatch.setitem(sys.modules, "tensorrt", None)
        with pytest.raises(
            MissingDependencyError, match=r"a\.engine runs with TensorRT, .*" + re.escape(pip_install("tensorrt"))
        ):
            open_session(tmp_path / "a.engine")
        record["backend"], record["versions"]["other"] = "other", "1"
        (tmp_path / "a.engine.json").write_text(json.dumps(record))
        with pytest.raises(EngineError, match="was built by other, which this trtcal cannot run"):
            open_session(tmp_path / "a.engine")

    def test_none_is_installed(self, tmp_path, monkeypatch):
        (tmp_path / "a.engine").write_bytes(b"something")
        monkeypatch.setitem(sys.modules, "tensorrt", None)
        monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
        with pytest.raises(MissingDependencyError, match="none is installed: pip install "):
            open_session(tmp_path / "a.engine")

    @pytest.mark.parametrize(("data", "backend"), [(b"one", "tensorrt"), (b"other", "tensorrt-rtx")])
    def test_without_a_side_car_whichever_takes_it(self, rtx, monkeypatch, tmp_path, data, backend):
        """Both modules are RTX's real one here, each with a runtime of its own."""
        from types import ModuleType

        twin = ModuleType("tensorrt")
        twin.__dict__.update(vars(rtx))
        monkeypatch.setitem(sys.modules, "tensorrt", twin)
        for module, takes in ((rtx, b"other"), (twin, b"one")):
            doubling(data=takes, says=[("ERROR", "magicTag")]).install(module, monkeypatch)
        (tmp_path / "a.engine").write_bytes(data)
        assert load_engine(tmp_path / "a.engine").backend == backend
        (tmp_path / "a.engine").write_bytes(b"neither")
        with pytest.raises(
            EngineError, match=r"no engine that TensorRT \d.* can load.*; .*no engine that TensorRT-RTX"
        ):
            load_engine(tmp_path / "a.engine")


def test_an_engine_gives_what_the_model_gives(engine_of):
    """The same session protocol: what runs one runs the other."""
    _, path = engine_of(doubling())
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4, 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    x = np.random.default_rng(0).standard_normal((7, 3)).astype(np.float32)
    with open_session(path) as engine, OnnxRuntimeSession(model) as reference:
        assert isinstance(engine, TensorRTSession)
        np.testing.assert_array_equal(engine.run({"x": x})["y"], reference.run({"x": x})["y"])
