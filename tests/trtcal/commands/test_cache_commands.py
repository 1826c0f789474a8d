import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from calibrators.cache.sidecar import Sidecar
from calibrators.cache.text import CalibrationCache
from engines.graph.model import activations, load_model, model_digest
from trtcal import cli
from trtcal.data.preprocess import Preprocess

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs `trtcal cache ...`; gives the exit code, standard output and standard error."""

    def run(*arguments: str | os.PathLike[str]) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["trtcal", "cache", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
            sys.exit(0)
        output = capsys.readouterr()
        return int(left.value.code or 0), output.out, output.err

    return run


@pytest.fixture
def lenet(shared_data: Path) -> Path:
    return shared_data / "models" / "lenet_mnist.onnx"


@pytest.fixture
def lenet_cache(shared_data: Path) -> Path:
    return shared_data / "models" / "lenet_mnist.tensorrt7.cache"


def sidecar_of(model: Path) -> Sidecar:
    return Sidecar(
        model_sha256=model_digest(model),
        method="entropy",
        tensors="all",
        image_sets=("b" * 64,),
        images=500,
        seed=3,
        preprocess={"scale": 0.00392, "layout": "NCHW"},
        versions={"trtcal": "0.1.0"},
    )


# show


def test_show_prints_every_tensor_with_its_range(command: Command, lenet_cache: Path) -> None:
    code, out, err = command("show", lenet_cache)
    assert code == 0
    assert "TensorRT 7.2.2, EntropyCalibration2; 9 tensors" in out
    row = next(line for line in out.splitlines() if "ip2" in line)
    assert all(cell in row for cell in ("3e11094c", "0.141637", "17.9879", "largest"))
    assert "(Unnamed Layer* 4) [Fully Connected]_output" in out
    assert "warning: the header is old (TensorRT 7.2.2" in err


def test_show_marks_what_is_of_no_use(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "odd.cache"
    scales = {"a": "3c010204", "b": "0", "c": "7f800000", "d": "7fc00000", "e": "bc010204", "f": "7d010204", "g": "1"}
    scales |= {"h": "3c010204", "i": "3c010205"}
    path.write_text("TRT-8601-EntropyCalibration2\n" + "".join(f"{name}: {bits}\n" for name, bits in scales.items()))
    code, out, _ = command("show", path, "--json")
    shown = json.loads(out)
    assert code == 0
    assert [", ".join(row["remarks"]) for row in shown["tensors"]] == [
        "",
        "zero",
        "infinite",
        "not a number",
        "negative",
        "largest, outlier",
        "denormal",
        "",
        "",
    ]
    assert shown["tensors"][2] == {
        "name": "c",
        "scale": None,
        "amax": None,
        "bits": "7f800000",
        "remarks": ["infinite"],
    }
    assert (shown["header"], shown["version"], shown["sidecar"]) == ("TRT-8601-EntropyCalibration2", 8601, None)
    _, out, _ = command("show", path)
    assert all(word in out for word in ("zero", "infinite", "not a number", "negative", "largest, outlier"))


@pytest.mark.parametrize(("sort", "names"), [("order", "bcda"), ("name", "abcd"), ("scale", "dabc")])
def test_show_sorts(sort: str, names: str, command: Command, tmp_path: Path) -> None:
    path = tmp_path / "m.cache"
    path.write_text("TRT-8601-EntropyCalibration2\nb: 3c010204\nc: 7fc00000\nd: 40000000\na: 3f800000\n")
    _, out, _ = command("show", path, "--sort", sort, "--json")
    assert "".join(row["name"] for row in json.loads(out)["tensors"]) == names


def test_show_tells_where_a_cache_comes_from(command: Command, tmp_path: Path, lenet: Path, lenet_cache: Path) -> None:
    path = tmp_path / "m.cache"
    cache, sidecar = CalibrationCache.load(lenet_cache), sidecar_of(lenet)
    cache.sidecar = sidecar
    cache.save(path)
    code, out, _ = command("show", path)
    assert code == 0
    for part in (
        "made by entropy of all tensors with trtcal 0.1.0",
        "from 500 images",
        "seed 3",
        f"SHA-256 {'b' * 12})",
        f"for the model of SHA-256 {sidecar.model_sha256[:12]}\n",
        f"preprocessing: {Preprocess.from_dict({'scale': 0.00392, 'layout': 'NCHW'})}\n",
    ):
        assert part in out
    _, out, _ = command("show", path, "--json")
    assert json.loads(out)["sidecar"] == json.loads(replace(sidecar, cache_sha256=cache.sha256).dumps())


def test_show_marks_the_scales_that_qdq_nodes_get_from_the_sidecar(
    command: Command, tmp_path: Path, lenet: Path
) -> None:
    path = tmp_path / "m.cache"
    sidecar = replace(sidecar_of(lenet), explicit={"pool": 0.0136612})
    CalibrationCache({"conv": 0.5, "pool": 0.25}, sidecar=sidecar).save(path)
    code, out, _ = command("show", path)
    assert code == 0
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]
    assert [(row[0], row[-1]) for row in rows] == [("conv", "largest"), ("pool", "Q/DQ: 0.01366")]


def test_show_says_that_it_ignores_a_stale_or_malformed_sidecar(command: Command, tmp_path: Path, lenet: Path) -> None:
    path = tmp_path / "m.cache"
    CalibrationCache({"a": 1.0}, sidecar=sidecar_of(lenet)).save(path)
    CalibrationCache({"a": 2.0}).save(path)
    code, out, err = command("show", path)
    assert code == 0
    assert f"warning: {path}.json is ignored: it describes another cache" in err
    assert "entropy of" not in out
    Path(f"{path}.json").write_text("{")
    code, _, err = command("show", path)
    assert code == 0
    assert "warning: the side-car is ignored" in err


def test_show_refuses_what_is_no_cache_in_one_line(command: Command, tmp_path: Path, lenet: Path) -> None:
    path = tmp_path / "bad.cache"
    path.write_text("TRT-8601-EntropyCalibration2\na: 3c010204\nb: 0.5\n")
    code, out, err = command("show", path)
    assert (code, out) == (2, "")
    assert err == f"trtcal: {path}, line 3: the scale '0.5' is not a float32's bits in hexadecimal, such as 3c010a14\n"
    code, _, err = command("show", lenet)
    assert code == 2
    assert "an ONNX model" in err
    code, _, err = command("show", tmp_path / "none.cache")
    assert (code, err) == (
        2,
        f"trtcal: cannot read {tmp_path}/none.cache: No such file or directory; give a calibration cache\n",
    )


# check


def test_tensorrts_own_cache_fits_its_model(command: Command, lenet: Path, lenet_cache: Path) -> None:
    code, out, err = command("check", lenet, lenet_cache)
    assert code == 0, err
    assert out.startswith(f"{lenet_cache} against {lenet}: it fits: all 4 quantizable tensors have a usable scale\n")
    rows = [line.split("│")[1].strip() for line in out.splitlines() if line.startswith("│")]
    assert rows == ["matched: float tensors of the model with a scale"]
    assert "recalibrate, or use the cache with `trtcal quantize`" in err
    code, out, _ = command("check", lenet, lenet_cache, "--json")
    found = json.loads(out)
    assert (code, found["fits"], found["errors"]) == (0, True, [])
    assert found["missing"] == found["stale"] == found["unusable"] == []
    assert found["matched"] == [name for name in activations(load_model(lenet)) if not name.endswith("_flatten")]
    assert any("the header is old" in warning for warning in found["warnings"])


def test_a_missing_scale_fails_the_check(command: Command, lenet: Path, lenet_cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.cache"
    path.write_text("".join(line for line in lenet_cache.open() if not line.startswith("ip1:")))
    code, out, err = command("check", lenet, path)
    assert code == 1
    assert err.splitlines()[-1].startswith(f"trtcal: {path} does not fit {lenet}: 1 quantizable tensor (ip")
    assert out.startswith(f"{path} against {lenet}: it does not fit: 1 quantizable tensor (ip")
    assert "missing: quantizable tensors without a scale" in out
    assert "it fits" not in out
    code, out, _ = command("check", lenet, path, "--json")
    assert (code, json.loads(out)["fits"]) == (1, False)


def test_a_zero_scale_fails_the_check(command: Command, lenet: Path, lenet_cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.cache"
    CalibrationCache.load(lenet_cache).with_scales({"ip1": 0.0}).save(path)
    code, _, err = command("check", lenet, path)
    assert code == 1
    assert "with a scale of no use" in err.splitlines()[-1]


def test_a_cache_of_another_model_fails_the_check(command: Command, shared_data: Path, lenet_cache: Path) -> None:
    code, _, err = command("check", shared_data / "models" / "cifar10_resnet20.onnx", lenet_cache)
    assert code == 1
    assert "no name in it is a tensor of the model: it is another model's" in err.splitlines()[-1]


def test_the_sidecar_must_name_the_model_and_the_cache(
    command: Command, lenet: Path, lenet_cache: Path, tmp_path: Path
) -> None:
    path = tmp_path / "m.cache"
    cache = CalibrationCache.load(lenet_cache)
    cache.sidecar = sidecar_of(lenet)
    cache.save(path)
    assert command("check", lenet, path)[0] == 0
    cache.sidecar = replace(sidecar_of(lenet), model_sha256="0" * 64)
    cache.save(path)
    code, _, err = command("check", lenet, path)
    assert code == 1
    assert err.splitlines()[-1].endswith("its side-car names another model (SHA-256 differs): calibrate this one")
    CalibrationCache.parse(cache.with_scales({"data": 1.0}).dumps()).save(path)
    code, _, err = command("check", lenet, path)
    assert code == 1
    assert "its side-car describes another cache" in err.splitlines()[-1]
    Path(f"{path}.json").write_text("[]")
    code, _, err = command("check", lenet, path)
    assert code == 2
    assert "is no side-car of a calibration cache" in err


def test_stale_names_leave_the_exit_code_0(command: Command, lenet: Path, lenet_cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.cache"
    CalibrationCache.load(lenet_cache).with_scales({"old": 1.0, "conv1.w": 0.01, "ONNXTRT_Broadcast_output": 1.0}).save(
        path
    )
    code, out, err = command("check", lenet, path, "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["stale"], found["internal"]) == (["old"], ["conv1.w", "ONNXTRT_Broadcast_output"])
    assert err == ""


def test_check_refuses_a_missing_model_in_one_line(command: Command, lenet_cache: Path, tmp_path: Path) -> None:
    code, _, err = command("check", tmp_path / "none.onnx", lenet_cache)
    assert (code, err.count("\n")) == (2, 1)
    assert "none.onnx" in err


def test_help_says_what_fits_means(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "2000")
    code, out, _ = command("check", "--help")
    assert code == 0
    assert (
        "It fits when every quantizable tensor of the model (those that Q/DQ nodes need) has a usable scale"
        in " ".join(out.split())
    )
    assert '"(Unnamed Layer* 4) ..." or "ONNXTRT_Broadcast_..."' in " ".join(out.split())
