"""From a graph and ranges to something that runs: ONNX graph passes, engine builder, sessions."""
