"""From a graph and ranges to something that runs: ONNX graph passes, engine builder, sessions."""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # ONNX Runtime, from 1.29 on, reads it while it is imported
