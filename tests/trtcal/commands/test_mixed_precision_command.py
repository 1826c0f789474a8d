"""`trtcal mixed-precision` as users meet it."""

import json

import numpy as np
import onnx
import pytest

from engines.sessions.onnxruntime import OnnxRuntimeSession
from tests.engines.networks import Net
from trtcal.config.settings import QuantConfig


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small network of three groups of layers, `model.onnx`, and 260 arrays with its own classes, `images.npz`."""
    folder = tmp_path_factory.mktemp("work")
    net = Net()
    net.conv(net.input("image", ("N", 3, 8, 8)), "a", 8, 3, 3, 3)
    net.node("Relu", "a", "a_relu")
    net.conv("a_relu", "b", 8, 8, 3, 3)
    net.node("Relu", "b", "b_relu")
    net.conv("b_relu", "c", 8, 8, 3, 3)
    net.node("Add", "c a_relu", "sum")
    net.node("GlobalAveragePool", "sum", "average")
    net.node("Flatten", "average", "flat")
    net.weight("w", 8, 4, fan_in=8)
    net.node("MatMul", "flat w", "scores")
    onnx.save(net.model("scores"), folder / "model.onnx")
    values = np.random.default_rng(1).standard_normal((260, 3, 8, 8)).astype(np.float32)
    with OnnxRuntimeSession(folder / "model.onnx") as session:
        labels = session.run({"image": values})["scores"].argmax(axis=1)
    np.savez(folder / "images.npz", image=values, labels=labels.astype(np.int64))
    np.save(folder / "bare.npy", values)
    (folder / "coarse.toml").write_text('[default]\nweight_bits = 3\ngranularity = "tensor"\n')
    return folder


@pytest.fixture
def search(command, folder, tmp_path):
    """Runs it on that network with further options; gives code, output, messages."""

    def run(*options, images="images.npz", output=tmp_path / "quant.toml"):
        return command(
            *("mixed-precision", folder / "model.onnx", "--images", folder / images, "--method", "minmax"),
            *("--count", 60, "--test-count", 80, "--confirm-count", 120, "-o", output, *options),
        )

    return run


def refused(result, *messages):
    code, out, err = result
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith("trtcal: ")
    for message in messages:
        assert message in err, err


def rows(out):
    """The cells of each table's lines."""
    return [[cell.strip() for cell in line[1:-1].split(line[0])] for line in out.splitlines() if line[:1] in "│┃"]


def test_what_it_says(search, folder, tmp_path):
    code, out, err = search("--config", folder / "coarse.toml", "--max-drop", 3)
    assert code == 0, err
    lines, (groups, *cells) = out.splitlines(), rows(out)
    source = folder / "images.npz"
    assert lines[0] == (
        f"calibrated on 60 images of {source}, judged by 80 of {source}, "
        "and by 120 others what reaches the target there"
    )
    assert lines[2].startswith("target: a drop of 3 points at most; ")
    assert " evaluations, " in lines[2]
    assert lines[2].endswith(" of them on further images; cost in MACs x bits")
    assert "; 2 trials of one group on 16 images; " in lines[2]
    assert (groups[:2], groups[-1]) == (["group", "layers"], "chosen")
    assert [row[0] for row in cells[:2]] == ["1", "2"]
    assert {row[1] for row in cells[:2]} == {"a/Conv", "b/Conv, c/Conv, sum/Add"}  # scores/MatMul is too small for INT8
    choices = cells[2:]
    assert choices[0][:5] == ["row", "operators", "switched", "cost", "images"]
    assert choices[1][:4] == ["-", "FP32", "-", "100.00 %"]
    assert choices[2][:3] == ["1", "4 config", "-"]
    assert choices[2][-1] == "no"
    assert [row[0] for row in choices[2:]] == [str(number) for number in range(1, len(choices) - 1)]
    assert any(row[1:3] == ["4 int8", "int8 all"] for row in choices)
    assert any(line.startswith("chosen: row ") for line in lines)
    assert lines[-1].startswith(f"{tmp_path / 'quant.toml'}: ")
    assert "note: all layers as --config has them do not reach the target" in err
    assert "[[layer]]" in (tmp_path / "quant.toml").read_text()


def test_json_says_all_of_it(search, folder, tmp_path):
    code, out, err = search("--config", folder / "coarse.toml", "--max-drop", 3, "--json")
    assert code == 0, err
    value = json.loads(out)
    assert value["target"] == {"kind": "max-drop", "value": 3.0}
    assert (value["criterion"], value["cost_unit"]) == ("top-1", "MACs x bits")
    assert value["evaluations"] == len(value["points"]) == len({tuple(each["precisions"]) for each in value["points"]})
    assert value["evaluations_on_further_images"] == sum(each["samples"] > 80 for each in value["points"])
    assert value["further"]["count"] == 120
    assert value["reference"]["samples"] == max(each["samples"] for each in value["points"])
    assert value["result"]["samples"] >= 80
    assert value["result"]["reaches"]
    assert value["result"]["drop"]["points"] <= 3
    assert value["result"] in value["points"]
    assert value["result"]["precisions"] == [group["chosen"] for group in value["groups"]]
    macs = {"a/Conv": 8 * 64 * 27, "scores/MatMul": 32}
    for group in value["groups"]:
        if group["layers"][0] in macs:
            assert group["costs"] == {
                name: bits * macs[group["layers"][0]]
                for name, bits in {"config": 5.5, "int8": 8, "fp16": 16, "fp32": 32}.items()
            }
        assert {each["samples"] for each in group["alone"].values()} == {16}
        assert group["lifted"] == {}
    costs = [each["cost"] for each in value["points"]]
    assert costs == sorted(costs)
    front = [each for each in value["points"] if each["front"]]
    assert [each["top1"]["percent"] for each in front] == sorted(each["top1"]["percent"] for each in front)
    worth = [step["noise_removed"] / step["cost_added"] for step in value["order"]]
    assert worth == sorted(worth, reverse=True)
    assert value["config"] == str(tmp_path / "quant.toml")


def test_exhaustively_each_group_is_measured_both_ways_on_all_images(search, folder):
    options = ("--config", folder / "coarse.toml", "--max-drop", 3, "--exhaustive")
    code, out, err = search(*options, "--json")
    assert code == 0, err
    value = json.loads(out)
    assert value["exhaustive"]
    for group in value["groups"]:
        assert set(group["alone"]) == set(group["lifted"]) == {"config", "int8"}
    assert (value["reference"]["samples"], value["result"]["samples"]) == (200, 200)
    assert value["evaluations_on_further_images"] == sum(each["samples"] == 200 for each in value["points"])
    header = rows(search(*options)[1])[0]
    assert header == ["group", "layers", "cost", "drop", "SQNR", "drop without", "SQNR without", "chosen"]


def test_the_model_that_quantize_writes_has_the_very_score(search, command, folder, tmp_path):
    """On all the images of the search, which are those that `accuracy` is given here."""
    cache, model = tmp_path / "m.cache", tmp_path / "m.int8.onnx"
    options = ("--config", folder / "coarse.toml", "--max-drop", 3, "--save-cache", cache, "--json", "--exhaustive")
    code, out, err = search(*options)
    assert code == 0, err
    found = json.loads(out)
    code, _, err = command(
        *("quantize", folder / "model.onnx", "--cache", cache, "--config", tmp_path / "quant.toml", "-o", model)
    )
    assert code == 0, err
    taken = _taken(folder, found)
    np.savez(tmp_path / "judged.npz", **taken)
    code, out, err = command(
        *("accuracy", folder / "model.onnx", model, "--images", tmp_path / "judged.npz", "--preprocess", "none"),
        "--json",
    )
    assert code == 0, err
    measured = json.loads(out)["models"][1]
    for each in (found["result"], found["written"]):
        assert (measured["top1"], measured["agreement"]) == (each["top1"], each["agreement"])
        assert (measured["drop"]["lost"], measured["drop"]["gained"]) == (each["drop"]["lost"], each["drop"]["gained"])
        assert measured["sqnr_db"] == pytest.approx(each["sqnr_db"], abs=0.01)


def _taken(folder, found):
    """The arrays that were judged by: all that were not calibrated on."""
    from trtcal.data.images import ImageLoader
    from trtcal.data.split import ImageChoice, further, parted

    with OnnxRuntimeSession(folder / "model.onnx") as session:
        parts = parted(ImageChoice(folder / "images.npz", count=60, test_count=80), session.inputs)
    others = further(parts, 120)
    assert isinstance(others, ImageLoader)
    assert (parts.test.digest, others.digest) == (found["test"]["digest"], found["further"]["digest"])
    places = [int(name.removeprefix("sample ")) for name in (*parts.test.names, *others.names)]
    with np.load(folder / "images.npz") as arrays:
        return {name: arrays[name][places] for name in ("image", "labels")}


def test_the_engine_has_those_layers_out_of_int8(search, command, folder, tmp_path):
    pytest.importorskip("tensorrt_rtx", reason="builds an engine: pip install trtcal[rtx]")
    cache, engine = tmp_path / "m.cache", tmp_path / "m.engine"
    code, out, err = search("--target-sqnr", 45, "--save-cache", cache, "--json")
    assert code == 0, err
    wanted = {
        layer: group["chosen"].upper()
        for group in json.loads(out)["groups"]
        for layer in group["layers"]
        if not layer.endswith("Add")
    }
    assert set(wanted.values()) == {"INT8", "FP16"}
    code, _, err = command(
        *("build", folder / "model.onnx", "--cache", cache, "--config", tmp_path / "quant.toml"),
        *("--backend", "tensorrt-rtx", "--compute-capability", 8.6, "-o", engine),
    )
    assert code == 0, err
    code, out, err = command("inspect", engine, "--json")
    assert code == 0, err
    assert {each["node"]: each["precision"] for each in json.loads(out)["operators"]} == wanted | {
        "scores/MatMul": "FP16"
    }


def test_where_no_choice_reaches_it(search, tmp_path):
    code, out, err = search("--target-sqnr", 200, "--candidates", "fp16")
    assert code == 1
    assert not (tmp_path / "quant.toml").exists()
    assert "all layers in int8 do not reach the target" in err
    assert "all layers in fp16 do not reach the target" in err
    assert err.splitlines()[-1].startswith(
        "trtcal: none of 2 choices evaluated reaches 200 dB: the nearest is 4 fp16, with top-1 "
    )
    assert "FP32" in out


def test_an_accuracy_to_reach(search):
    code, out, _ = search("--target-accuracy", 97, "--json")
    value = json.loads(out)
    assert (code, value["target"]) == (0, {"kind": "target-accuracy", "value": 97.0})
    assert value["result"]["top1"]["percent"] >= 97


def test_without_labels_it_goes_by_agreement(search):
    code, out, err = search("--max-drop", 2, "--json", images="bare.npy")
    value = json.loads(out)
    assert (code, value["criterion"], value["result"]["top1"]) == (0, "agreement", None)
    assert value["result"]["agreement"]["percent"] >= 98
    refused(search("--target-accuracy", 90, images="bare.npy"), "give --labels, or --max-drop")
    assert "interval" in err or value["evaluations"] == 1


def test_a_run_goes_on_where_it_was(search, folder, tmp_path):
    options = ("--config", folder / "coarse.toml", "--max-drop", 3, "--resume", tmp_path / "trials.json", "--json")
    first, second = (json.loads(search(*options)[1]) for _ in range(2))
    assert first.pop("remembered") == 0
    before = (tmp_path / "trials.json").read_text()
    done = second.pop("remembered")
    assert done >= first["evaluations"] + first["evaluations_on_further_images"]
    assert second.pop("notes") == [*first.pop("notes"), f"{done} scores are those of an earlier run"]
    assert first == second
    third = json.loads(search(*options)[1])
    assert (third["remembered"], (tmp_path / "trials.json").read_text()) == (done, before)


def test_another_row_is_taken_without_measuring_again(search, command, folder, tmp_path):
    """What it says it has in INT8 is what quantize says it wrote, whichever row."""
    kept = ("--target-sqnr", 45, "--resume", tmp_path / "trials.json", "--save-cache", tmp_path / "m.cache")
    kept = (*kept, "--exhaustive")  # which has more rows
    code, out, err = search(*kept)
    assert code == 0, err
    table = rows(out)
    choices = {row[0]: row for row in table[table.index(next(row for row in table if row[0] == "row")) :]}
    before = json.loads((tmp_path / "trials.json").read_text())
    numbers = {number: row for number, row in choices.items() if number.isdigit() and "int8" in row[1]}
    assert len(numbers) > 2
    for number, row in numbers.items():
        code, out, err = search(*kept, "--choose", number, output=tmp_path / "row.toml")
        assert code == 0, err
        assert f"chosen: row {number}, {row[1]}, " in out
        assert out.splitlines()[-1] == f"{tmp_path / 'row.toml'}: {row[1]}"
        assert (f"row {number}, which was asked for, does not reach the target" in err) == (row[-1] == "no")
        config = ("--config", tmp_path / "row.toml", "-o", tmp_path / "row.onnx")
        said = command("quantize", folder / "model.onnx", "--cache", tmp_path / "m.cache", *config)[1]
        assert f": {row[1].split(' int8')[0]} operators in INT8" in said
    assert json.loads((tmp_path / "trials.json").read_text()) == before
    refused(search(*kept, "--choose", 99), f"there is no row 99 to choose: the search found {len(choices) - 2}")


def test_a_row_may_be_taken_where_none_reaches_the_target(search, tmp_path):
    impossible = ("--target-sqnr", 200, "--candidates", "fp16")
    code, out, err = search(*impossible, "--choose", 2)
    assert code == 0, err
    assert "chosen: row 2, 4 fp16" in out
    assert "note: row 2, which was asked for, does not reach the target" in err
    assert "fp16" in (tmp_path / "quant.toml").read_text()


def test_the_batch_size_does_not_change_the_result(search, folder):
    options = ("--config", folder / "coarse.toml", "--max-drop", 3, "--json")
    assert search(*options)[1] == search(*options, "--batch-size", 3)[1]


def test_measured_times_are_saved_instead(search, folder, tmp_path):
    profile = tmp_path / "int8.json"
    names = {"a/Conv + a_relu/Relu": 0.01, "b/Conv + b_relu/Relu": 0.1, "c/Conv + sum/Add": 0.2, "Reformat 1": 0.05}
    profile.write_text(json.dumps([{"count": 10}, *({"name": name, "averageMs": ms} for name, ms in names.items())]))
    code, out, err = search("--target-sqnr", 45, "--profile", f"int8={profile}", "--json")
    assert code == 0, err
    value = json.loads(out)
    assert value["cost_unit"] == "ms"
    costs = {layer: group["costs"] for group in value["groups"] for layer in group["layers"]}
    assert costs["a/Conv"] == pytest.approx({"int8": 0.01, "fp16": 0.02, "fp32": 0.04})
    assert any("scores/MatMul" in note and "no time in int8" in note for note in value["notes"])
    assert any("such as Reformat 1, name no layer" in note for note in value["notes"])
    assert any("no times in fp16: taken for 2 times those in int8" in note for note in value["notes"])
    assert rows(search("--target-sqnr", 45, "--profile", profile)[1])[-1][3].endswith(" ms")


def test_layers_that_are_slower_in_int8_begin_in_fp16(search, tmp_path):
    profile = tmp_path / "times.json"
    times = {name: {"int8": 1.0, "fp16": 2.0} for name in ("a/Conv", "b/Conv", "scores/MatMul")}
    times["c/Conv"] = {"int8": 4.0, "fp16": 2.0}
    profile.write_text(json.dumps(times))
    code, _, err = search("--target-sqnr", 5, "--profile", profile)
    assert code == 0, err
    assert "int8 is no candidate for 1 group(s) of layers" in err
    layers = QuantConfig.load(tmp_path / "quant.toml").rules
    assert {rule.target for rule in layers} >= {"c/Conv", "sum/Add"}


def test_settings_that_tensorrt_cannot_obey_are_told(search, tmp_path):
    (tmp_path / "wide.toml").write_text("[default]\nactivation_bits = 12\n")
    code, _, err = search("--target-sqnr", 10, "--config", tmp_path / "wide.toml")
    assert code == 0
    assert "note: quantize and build refuse these settings: activation_bits of" in err


def test_what_cannot_be_is_refused_before_anything_is_done(search, command, folder, tmp_path):
    refused(search(), "no target is given: choose one of --max-drop")
    refused(search("--max-drop", 1, "--target-accuracy", 90), "2 targets are given")
    refused(search("--max-drop", -1), "from 0 to 100")
    refused(search("--max-drop", "nan"), "from 0 to 100")
    refused(search("--max-drop", 1, "--candidates", "int8,bf16"), "'bf16' is none of int8, fp16, fp32")
    refused(search("--max-drop", 1, "--method", "magic"), "there is no range method 'magic'")
    refused(search("--max-drop", 1, "--profile", tmp_path / "absent.json"), "there is no profile")
    refused(search("--max-drop", 1, output=folder / "model.onnx"), "model.onnx")
    refused(search("--max-drop", 1, "--config", folder / "coarse.toml", output=folder / "coarse.toml"), "coarse.toml")
    refused(search("--max-drop", 1, output=tmp_path / "absent" / "quant.toml"), "absent")
    refused(search("--max-drop", 1, images="absent.npz"), "there is no")
    (tmp_path / "wrong.toml").write_text("[default]\nweight_bit = 4\n")
    refused(search("--max-drop", 1, "--config", tmp_path / "wrong.toml"), "weight_bit")
    (tmp_path / "skip.toml").write_text('[skip]\nnames = ["*"]\n')
    refused(search("--max-drop", 1, "--config", tmp_path / "skip.toml"), "every layer stays in float, such as a/Conv")
    (tmp_path / "trials.json").write_text("{}")
    refused(search("--max-drop", 1, "--resume", tmp_path / "trials.json"), "trials.json")
    refused(search("--max-drop", 1, "--resume", tmp_path / "trials.json", images="absent.npz"), "trials.json")
    assert not (tmp_path / "quant.toml").exists()


def test_where_no_layer_is_left_in_int8_that_is_told(search):
    code, _, err = search("--target-sqnr", 60)
    assert code == 0
    assert "note: no layer is left in INT8: build the float model with --precision fp16" in err


def test_a_detector_has_a_ratio_to_reach(command, tmp_path):
    net = Net()
    net.conv(net.input("image", ("N", 3, 8, 8)), "a", 8, 3, 3, 3)
    net.node("Relu", "a", "a_relu")
    net.conv("a_relu", "boxes", 4, 8, 1, 1)
    net.conv("a_relu", "scores", 2, 8, 1, 1)
    onnx.save(net.model("boxes", "scores"), tmp_path / "m.onnx")
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((40, 3, 8, 8)).astype(np.float32))
    common = ("mixed-precision", tmp_path / "m.onnx", "--images", tmp_path / "x.npy", "-o", tmp_path / "q.toml")
    refused(command(*common, "--max-drop", 1), "give --target-sqnr, in dB, instead of --max-drop")
    code, out, err = command(*common, "--target-sqnr", 42, "--count", 20, "--test-count", 10)
    assert code == 0, err
    header = rows(out)[0]
    assert header == ["group", "layers", "cost", "SQNR", "chosen"]
    assert [row[1] for row in rows(out) if "boxes" in row[1]] == ["boxes/Conv, scores/Conv"]


def test_the_float_model_is_told_where_labels_are_wrong(search, command, folder, tmp_path):
    with np.load(folder / "images.npz") as arrays:
        np.savez(tmp_path / "wrong.npz", image=arrays["image"], labels=arrays["labels"] + 7)
    result = command(
        *("mixed-precision", folder / "model.onnx", "--images", tmp_path / "wrong.npz", "--max-drop", 1),
        *("-o", tmp_path / "q.toml"),
    )
    refused(result, "is none of the 4 classes")


def test_its_tables_have_room_in_a_terminal_of_80_columns(command, folder, terminal, monkeypatch):
    monkeypatch.chdir(folder)  # a path may be longer than a line
    terminal(80)
    images = ("--images", "images.npz", "--count", 60, "--test-count", 80, "--confirm-count", 120)
    code, out, err = command("mixed-precision", "model.onnx", *images, "--target-sqnr", 45, "-o", "narrow.toml")
    assert code == 0, err
    assert max(map(len, out.splitlines())) <= 80


def test_settings_of_the_users_are_not_replaced_unasked(command, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quant.toml").write_text("[default]\nweight_bits = 4\n")
    arguments = ["mixed-precision", folder / "model.onnx", "--images", folder / "images.npz", "--max-drop", 50]
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    assert "quant.toml is there already: name the settings to write" in err
    assert (tmp_path / "quant.toml").read_text() == "[default]\nweight_bits = 4\n"
