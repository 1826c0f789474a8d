"""Suites run in processes of their own, where one version of TensorRT is importable; see README.md."""

import os

collect_ignore = [] if "TRTCAL_CONTRACT_VERSION" in os.environ else ["suites"]
