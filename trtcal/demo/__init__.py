"""The demo: small networks, and the handwritten digits that they read or find.

The networks are bundled: `digits.onnx` is trained by `tools/train_demo.py`, the others by `tools/train_detector.py`.
The digits come with scikit-learn.
"""

from pathlib import Path

MODEL = Path(__file__).with_name("digits.onnx")
"""The bundled FP32 model: input ``image`` (N, 1, 32, 32) of values 0 to 1; output ``scores`` (N, 10)."""

DETECTOR = Path(__file__).with_name("scenes.onnx")
"""The bundled FP32 detector: input ``image`` (N, 3, 160, 160) of values 0 to 1; output ``found`` (N, 14, 525)."""

SEGMENTER = Path(__file__).with_name("scenes_segment.onnx")
"""The bundled FP32 segmentation model: the same input; output ``scores`` (N, 11, 160, 160), ground first."""
