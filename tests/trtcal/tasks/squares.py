"""A detector of bright squares, exactly built, with images and annotations: what tests of tasks run on."""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper
from PIL import Image

SIZE, STRIDES, CLASSES = 64, (8, 16, 32), 2

ANCHORS = sum((SIZE // stride) ** 2 for stride in STRIDES)


def detector(
    path: Path, *, normalized: bool = False, gain: float = 1.0, outputs: int = 1, sharpness: float = 20.0
) -> Path:
    """A model of YOLOv8's layout that finds squares of 8 pixels, red ones of class 0 and green ones of class 1.

    Args:
        path: Where it goes.
        normalized: Boxes from 0 to 1, not in pixels.
        gain: What scores are multiplied by: 0 makes a detector that finds nothing.
        outputs: 1 for ``output0`` (N, 4 + classes, anchors); 2 for ``boxes`` (N, 4, anchors) and ``scores``.
        sharpness: How steeply the score rises with the square's brightness.
    """
    cells = SIZE // STRIDES[0]
    kernel = np.zeros((CLASSES, 3, 8, 8), np.float32)
    for channel in range(CLASSES):
        kernel[channel, channel] = 1 / 64
    anchors = np.concatenate([_anchors(stride) for stride in STRIDES], axis=1)
    weights = {
        "kernel": kernel,
        "slope": np.full((CLASSES, CLASSES, 1, 1), 0, np.float32)
        + np.eye(CLASSES, dtype=np.float32)[..., None, None] * sharpness,
        "shift": np.full(CLASSES, -0.6 * sharpness, np.float32),
        "flat": np.array([0, CLASSES, cells * cells], np.int64),
        "rest": np.full((1, CLASSES, ANCHORS - cells * cells), 1e-6, np.float32),
        "zero": np.float32(0),
        "gain": np.float32(gain),
        "boxes_here": (anchors / SIZE if normalized else anchors)[None].astype(np.float32),
    }
    node = helper.make_node
    nodes = [
        node("Conv", ["images", "kernel"], ["means"], strides=[8, 8], name="means"),
        node("Conv", ["means", "slope", "shift"], ["logits"], name="head"),
        node("Sigmoid", ["logits"], ["chances"], name="chances"),
        node("Reshape", ["chances", "flat"], ["near"], name="flatten"),
        node("ReduceMean", ["near"], ["any"], axes=[1, 2], keepdims=1, name="any"),
        node("Mul", ["any", "zero"], ["none"], name="none"),
        node("Add", ["none", "rest"], ["far"], name="far"),
        node("Concat", ["near", "far"], ["every"], axis=2, name="every"),
        node("Mul", ["every", "gain"], ["scores"], name="scores"),
        node("Add", ["none", "boxes_here"], ["boxes"], name="boxes"),
    ]
    if outputs == 1:
        nodes.append(node("Concat", ["boxes", "scores"], ["output0"], axis=1, name="output"))
    told = {"boxes": 4, "scores": CLASSES} if outputs == 2 else {"output0": 4 + CLASSES}
    graph = helper.make_graph(
        nodes,
        "squares",
        [helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, ["N", 3, SIZE, SIZE])],
        [
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", rows, ANCHORS])
            for name, rows in told.items()
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def photographs(folder: Path, count: int = 12, *, width: int = 128, height: int = 64, seed: int = 0) -> Path:
    """Images with squares, and ``annotations.json`` beside the folder, in COCO's format.

    They are ``width`` x ``height``: in a letterbox of 64 x 64, 128 x 64 shrink to a half, with bars above and below.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    factor = min(SIZE / width, SIZE / height)
    side = round(8 / factor)
    images, annotations = [], []
    for number in range(count):
        pixels = rng.integers(0, 40, (height, width, 3))
        name = f"{number:03}.png"
        images.append({"id": number + 1, "file_name": name, "width": width, "height": height})
        rows, columns = height // side, width // side
        for cell in rng.choice(rows * columns, 3, replace=False).tolist():
            top, left = cell // columns * side, cell % columns * side
            kind = int(rng.integers(CLASSES))
            pixels[top : top + side, left : left + side, kind] = 255
            annotations.append(
                {
                    **{"id": len(annotations) + 1, "image_id": number + 1, "category_id": 10 + kind, "iscrowd": 0},
                    **{"bbox": [left, top, side, side], "area": side * side},
                }
            )
        Image.fromarray(pixels.astype(np.uint8)).save(folder / name)
    categories = [{"id": 10, "name": "red"}, {"id": 11, "name": "green"}]
    truth = {"images": images, "annotations": annotations, "categories": categories}
    (folder.parent / "annotations.json").write_text(json.dumps(truth))
    return folder


def letterbox(path: Path) -> Path:
    """A preprocessing file that fits images into the model's input."""
    path.write_text('channels = "RGB"\nscale = "1/255"\n\n[resize]\nmode = "letterbox"\nfill = 0\n')
    return path


def _anchors(stride: int) -> np.ndarray:
    """Centre x and y, width and height of each cell, in pixels: shape (4, cells)."""
    count = SIZE // stride
    rows, columns = np.divmod(np.arange(count * count), count)
    side = np.full(count * count, 8 if stride == 8 else stride)
    return np.stack([(columns + 0.5) * stride, (rows + 0.5) * stride, side, side])
