"""Lines of text from PaddleOCR's detector, beside plain loops after its steps: flood fill, every direction, a mask."""

import itertools
import math

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from scipy.spatial import ConvexHull, QhullError

from calibrators.errors import ModelError
from engines.sessions.onnxruntime import OnnxRuntimeSession
from tests.trtcal.tasks.adapters.exact import ran
from trtcal.tasks.adapters.dbnet import ADAPTER

SIZE = (96, 128)


def regions(binary):
    """Pixels that touch, at corners too, one by one."""
    left = {(x, y) for y, x in zip(*np.nonzero(binary), strict=True)}
    while left:
        open_, region = [left.pop()], []
        while open_:
            x, y = open_.pop()
            region.append((x, y))
            for neighbour in itertools.product((x - 1, x, x + 1), (y - 1, y, y + 1)):
                if neighbour in left:
                    left.remove(neighbour)
                    open_.append(neighbour)
        yield region


def smallest(region):
    """(area, sides, direction, ends) of the smallest rectangle with a side along an edge of Qhull's hull."""
    points = np.array(region, float)
    try:
        hull = points[ConvexHull(points).vertices].tolist()
    except QhullError:  # all in one line
        return None
    best = None
    for (ax, ay), (bx, by) in zip(hull, hull[1:] + hull[:1], strict=True):
        length = math.hypot(bx - ax, by - ay)
        u, v = (bx - ax) / length, (by - ay) / length
        along, across = [x * u + y * v for x, y in hull], [y * u - x * v for x, y in hull]
        sides = max(along) - min(along), max(across) - min(across)
        if best is None or sides[0] * sides[1] < best[0] - 1e-9:
            best = (sides[0] * sides[1], sides, (u, v), (min(along), max(along)), (min(across), max(across)))
    return best


def corners(rectangle, by=0.0):
    _, _, (u, v), (a, b), (c, d) = rectangle
    places = [(a - by, c - by), (b + by, c - by), (b + by, d + by), (a - by, d + by)]
    return [(p * u - q * v, p * v + q * u) for p, q in places]


def mean(plane, polygon):
    """Of the pixels in a polygon of whole corners, with those of the lines along its edges."""
    whole = [(int(x), int(y)) for x, y in polygon]
    edges = list(zip(whole, whole[1:] + whole[:1], strict=True))
    inside = set()
    for (ax, ay), (bx, by) in edges:
        steps = max(abs(bx - ax), abs(by - ay), 1)
        inside |= {(round(ax + (bx - ax) * n / steps), round(ay + (by - ay) * n / steps)) for n in range(steps + 1)}
    for y in range(plane.shape[0]):
        crossings = sorted(
            ax + (bx - ax) * (y - ay) / (by - ay) for (ax, ay), (bx, by) in edges if (ay <= y) != (by <= y)
        )
        for left, right in zip(crossings[::2], crossings[1::2], strict=True):
            inside |= {(x, y) for x in range(math.ceil(left), math.floor(right) + 1)}
    values = [plane[y, x] for x, y in inside if 0 <= x < plane.shape[1] and 0 <= y < plane.shape[0]]
    return float(sum(values)) / len(values)


def by_hand(plane, scale=(1.0, 1.0)):
    """(score, left, top, right, bottom), the highest score first."""
    plane = np.asarray(plane, np.float64)
    found = []
    for region in regions(plane > 0.3):
        rectangle = smallest(region) if len(region) > 2 else None
        if rectangle is None or min(rectangle[1]) < 3:
            continue
        score = mean(plane, corners(rectangle))
        area, sides = rectangle[:2]
        by = 1.5 * area / (2 * sum(sides))
        if score < 0.6 or min(sides) + 2 * by < 5:
            continue
        points = [
            (min(max(x, 0), plane.shape[1]) * scale[1], min(max(y, 0), plane.shape[0]) * scale[0])
            for x, y in corners(rectangle, by)
        ]
        xs, ys = zip(*points, strict=True)
        found.append((score, min(xs), min(ys), max(xs), max(ys)))
    return sorted(found, reverse=True)


def same(found, expected):
    """Boxes to 0.01 pixel; a line along an edge may take another pixel of two that are equally near."""
    assert len(found) == len(expected)
    assert (found.classes == 0).all()
    ours = sorted(map(tuple, np.column_stack([found.boxes, found.scores])))
    theirs = sorted((*box, score) for score, *box in expected)
    for one, other in zip(ours, theirs, strict=True):
        assert max(abs(a - b) for a, b in zip(one[:4], other[:4], strict=True)) < 0.01
        assert abs(one[4] - other[4]) < 0.01


def drawn(seed, turned):
    """An image (480, 640) of ten lines of letters, some over others."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (640, 480), tuple(rng.integers(150, 255, 3).tolist()))
    for _ in range(10):
        words = " ".join("".join(map(chr, rng.integers(97, 122, rng.integers(3, 8)))) for _ in range(3))
        layer = Image.new("L", (500, 80))
        font = ImageFont.load_default(size=int(rng.integers(12, 50)))
        ImageDraw.Draw(layer).text((5, 5), words, fill=255, font=font)
        layer = layer.rotate(float(rng.uniform(-25, 25)) if turned else 0.0, expand=True)
        image.paste((10, 20, 40), (int(rng.integers(0, 300)), int(rng.integers(0, 420))), layer)
    return image


@pytest.mark.parametrize("turned", [False, True])
def test_text_is_found_as_paddleocr_finds_it(shared_data, turned):
    with OnnxRuntimeSession(shared_data / "models" / "ppocr_v4_det.onnx") as session:
        for seed in range(3):
            pixels = (np.asarray(drawn(seed, turned), np.float32) / 255 - 0.5) / 0.5
            outputs = session.run({"x": pixels.transpose(2, 0, 1)[None]})
            (found,) = ADAPTER.decode(outputs, (480, 640))
            same(found, by_hand(next(iter(outputs.values()))[0, 0]))
            assert len(found) > 1
            assert (np.diff(found.scores) <= 0).all()


def bars(dtype=np.float32):
    """Three maps: two bars of which one is slanted; nothing; a faint bar, a thin one, and one at the edge."""
    maps = np.zeros((3, 1, *SIZE), dtype)
    maps[0, 0, 10:20, 15:70] = 0.9
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    maps[0, 0, (abs(0.8 * (x - 60) - 0.6 * (y - 60)) <= 30) & (abs(0.6 * (x - 60) + 0.8 * (y - 62)) <= 6)] = 0.8
    maps[2, 0, 5:15, 5:50] = 0.5
    maps[2, 0, 30:33, 5:50] = 0.9
    maps[2, 0, 60:72, 90:] = 0.7
    return maps


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_maps_of_a_batch_are_read_each_by_itself(dtype):
    maps = bars(dtype)
    found = ADAPTER.decode(ran({"map": maps}, [2, 1, 0], SIZE), SIZE)
    assert [len(each) for each in found] == [1, 0, 2]
    for each, row in zip(found, [2, 1, 0], strict=True):
        same(each, by_hand(maps[row, 0]))
    assert found[1].boxes.shape == (0, 4)


def test_a_bar_grows_by_its_area_over_its_perimeter():
    (found, *_) = ADAPTER.decode({"map": bars()[:1]}, SIZE)
    by = 1.5 * (54 * 9) / (2 * (54 + 9))
    box = found.boxes[np.argmin(found.boxes[:, 1])]
    assert box == pytest.approx([15 - by, 10 - by, 69 + by, 19 + by])


def test_polygons_have_the_boxes_for_bounds():
    (found, *_) = ADAPTER.decode({"map": bars()[:1]}, SIZE)
    for box, (polygon,) in zip(found.boxes, found.masks, strict=True):
        points = np.array(polygon).reshape(4, 2)
        assert [*points.min(axis=0), *points.max(axis=0)] == pytest.approx(box)


def test_a_smaller_map_is_brought_to_the_inputs_pixels():
    maps = bars()
    (found, *_) = ADAPTER.decode({"map": maps}, (SIZE[0] * 2, SIZE[1] * 3))
    same(found, by_hand(maps[0, 0], scale=(2.0, 3.0)))


def test_logits_become_probabilities():
    maps = bars()[:1]
    chances = np.clip(maps.astype(np.float64), 0.01, 0.99)
    (found,) = ADAPTER.decode({"map": np.log(chances / (1 - chances))}, SIZE)
    same(found, by_hand(chances[0, 0]))


def test_what_is_not_a_number_is_no_text():
    maps = bars()
    maps[0, 0, 10:20, 15:70] = np.nan
    maps[1] = np.nan
    maps[2] = np.inf
    found = ADAPTER.decode({"map": maps}, SIZE)
    assert [len(each) for each in found] == [1, 0, 0]
    same(found[0], by_hand(np.nan_to_num(maps[0, 0])))


def test_noise_is_no_text():
    noise = np.random.default_rng(13).random((1, 1, 320, 320))
    (found,) = ADAPTER.decode({"map": noise}, (320, 320))
    same(found, by_hand(noise[0, 0]) if len(found) else [])


@pytest.mark.parametrize(
    "shapes", [{"probs": (1, 1000)}, {"out": (1, 3, 9, 9)}, {"hm": (1, 1, 9, 9), "wh": (1, 2, 9, 9)}, {"m": (1, 9, 9)}]
)
def test_other_outputs_are_told_in_a_line(shapes):
    reason = ADAPTER.misfit(shapes, SIZE)
    assert reason.startswith("one map, an output of (N, 1, rows, columns), not")
    with pytest.raises(ModelError, match="one map"):
        ADAPTER.decode({name: np.zeros(shape) for name, shape in shapes.items()}, SIZE)
    assert ADAPTER.classes(shapes) == 1
