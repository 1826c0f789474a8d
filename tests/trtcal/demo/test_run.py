import re
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from calibrators.errors import MissingDependencyError, OutputError
from calibrators.installation import pip_install
from engines.graph.model import input_specs, load_model
from engines.sessions.onnxruntime import OnnxRuntimeSession
from trtcal.data.images import ImageLoader
from trtcal.demo import MODEL
from trtcal.demo.digits import Digits, load_split, write_images

pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra [demo])")


def scores_of(digits: Digits) -> npt.NDArray[np.generic]:
    return OnnxRuntimeSession(MODEL).run({"image": digits.images[:, None].astype(np.float32) / 255})["scores"]


# the bundled model


def test_the_bundled_model_has_what_makes_int8_hard() -> None:
    model = load_model(MODEL)
    onnx.checker.check_model(model, full_check=True)
    operators = {node.op_type for node in model.graph.node}
    assert operators == {
        *("Conv", "BatchNormalization", "Clip", "Sigmoid", "Mul", "Add"),
        *("MaxPool", "AveragePool", "Concat", "Reshape", "Gemm"),
    }
    groups = [
        next((item.i for item in node.attribute if item.name == "group"), 1)
        for node in model.graph.node
        if node.op_type == "Conv"
    ]
    assert sum(group > 1 for group in groups) == 5  # depthwise
    assert [(spec.name, spec.shape) for spec in input_specs(model)] == [("image", ("N", 1, 32, 32))]


def test_the_bundled_model_is_small_and_says_nothing_of_the_machine_it_was_made_on() -> None:
    content = MODEL.read_bytes()
    assert len(content) < 400_000
    assert not any(word in content for word in (b"/home", b"/root", b"/tmp", b"/usr", b"site-packages", b'.py"'))


def test_the_bundled_model_is_as_accurate_as_it_says() -> None:
    facts = {entry.key: entry.value for entry in load_model(MODEL).metadata_props}
    test = load_split().test
    top1 = 100 * float(np.mean(scores_of(test).argmax(1) == test.labels))
    assert top1 == pytest.approx(float(facts["test_top1"]), abs=0.01)
    assert top1 >= 98


# the digits


def test_the_parts_of_the_split_share_no_image_and_together_are_all() -> None:
    split = load_split()
    parts = (split.train, split.validation, split.test)
    assert [len(part) for part in parts] == [1000, 197, 600]
    assert sorted(np.concatenate([part.numbers for part in parts])) == list(range(1797))


def test_images_come_back_from_their_files_as_they_were_written(tmp_path: Path) -> None:
    digits = load_split().test[:50]
    write_images(digits, tmp_path)
    loader = ImageLoader(tmp_path, preprocess="unit", inputs=input_specs(load_model(MODEL)), batch_size=50)
    (batch,) = loader
    written = {
        f"{label}/digit-{number:04}.png": at
        for at, (label, number) in enumerate(zip(digits.labels, digits.numbers, strict=True))
    }
    order = [written[name] for name in batch.names]
    np.testing.assert_allclose(batch["image"][:, 0], digits.images[order].astype(np.float32) / 255, rtol=1e-6)
    assert loader.class_names == tuple("0123456789")
    assert batch.labels is not None and batch.labels.tolist() == digits.labels[order].tolist()


def test_images_cannot_be_written_where_a_class_folder_is_a_file(tmp_path: Path) -> None:
    digits = load_split().test[:1]
    (tmp_path / str(digits.labels[0])).write_text("")
    with pytest.raises(OutputError, match=f"cannot write .*{digits.labels[0]}: "):
        write_images(digits, tmp_path)


def test_a_missing_scikit_learn_is_an_error_that_says_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingDependencyError, match=f"not installed: {re.escape(pip_install('demo'))}"):
        load_split()
