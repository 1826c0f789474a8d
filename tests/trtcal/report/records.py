"""Records for tests of the page: one of each section, and a very large one."""

from typing import Any

import numpy as np

METHODS = ("mse", "minmax", "entropy")
HOSTILE = "</script><img src=x onerror=alert(1)> & \"quotes\" 'too'"


def tensor(number: int, name: str | None = None) -> dict[str, Any]:
    rng = np.random.default_rng(number)
    thresholds = {method: 1.0 + number % 7 + place for place, method in enumerate(METHODS)}
    return {
        "name": name or f"tensor/{number}",
        "low": -4.0 if number % 2 else 0.0,
        "high": 4.0,
        "counts": rng.integers(0, 1000, 64).tolist(),
        "zeros": 3,
        "total": 64000,
        "thresholds": thresholds,
        "clipped": dict.fromkeys(METHODS, 0.001 * (number % 11)),
        "levels": dict.fromkeys(METHODS, 255 - number % 100),
        "harm": 20.0 + number if number < 20 else None,
        "float": None,
    }


def node(number: int, name: str | None = None) -> dict[str, Any]:
    return {
        "name": name or f"layer/{number}",
        "operator": ("Conv", "Relu", "Add")[number % 3],
        "precision": ("int8", "none", "fp16")[number % 3],
        "error_db": 20.0 + number % 30 if number % 3 == 0 else None,
        "macs": 1000 * number if number % 3 == 0 else None,
        "shapes": "1x8x16x16",
        "scale": 0.01 if number % 3 == 0 else None,
        "reason": "a head" if number % 3 == 2 else "",
        "level": number // 2,
        "lane": number % 2,
    }


def record_of(nodes: int, tensors: int) -> dict[str, Any]:
    """A record with every section that is not made by other commands."""
    return {
        "report": 1,
        "title": f"model {HOSTILE}",
        "verdict": {
            "holds": True,
            "sentence": f"int8 holds {HOSTILE}",
            "chosen": "int8",
            "measure": "top-1",
            "max_drop": 1.0,
            "candidates": [
                {
                    "name": name,
                    "step": "default",
                    "accuracy": 90.0,
                    "interval": [88.0, 92.0],
                    "drop": 0.1,
                    "drop_interval": [-0.5, 0.7],
                    "holds": True,
                    "latency_ms": None,
                    "throughput": None,
                    "bytes": 1_000_000,
                    "int8_share": 80.0,
                    "cost": 26.0,
                }
                for name in ("int8", "fp16")
            ],
            "steps": [{"name": "default", "told": "ranges by mse", "seconds": 1.5, "reused": False}],
            "to_measure": ["trtcal benchmark m.engine"],
            "commands": ["trtcal optimize m.onnx"],
            "notes": [f"a note {HOSTILE}"],
        },
        "ranges": {"methods": [*METHODS], "chosen": "mse", "tensors": [tensor(number) for number in range(tensors)]},
        "layers": {
            "nodes": [node(0, HOSTILE), *(node(number) for number in range(1, nodes))],
            "edges": [[number, number + 2] for number in range(nodes - 2)],
        },
        "how": {"command": "trtcal optimize", "versions": {"onnxruntime": "1"}, "warnings": ["a warning"]},
    }
