"""What the formats of scales are called, with the words that a command line's help has for each: a new one goes here.

Nothing is imported here that takes time: the command line lists the names.
"""

from enum import Enum


class FormatName(str, Enum):
    """A form that scales are kept in; all but `QDQ` and `AIMET` are in `calibrators.codecs.formats.FORMATS`.

    Attributes:
        what: What help texts say of it; empty where its name says all.
    """

    what: str

    def __new__(cls, name: str, what: str = "") -> "FormatName":
        """A name that is a string, and what it means."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.what = what
        return member

    TENSORRT = "tensorrt", "its calibration cache"
    QDQ = "qdq", "a model with Q/DQ nodes"
    AIMET = "aimet", "the same as aimet-1.0.0"
    AIMET_0_6_1 = "aimet-0.6.1"
    AIMET_1_0_0 = "aimet-1.0.0", "AIMET's encodings, as it writes them by default and most of its tools read them"
    AIMET_2_0_0 = "aimet-2.0.0", "which tells axes, too"
    ONNXRUNTIME_FLATBUFFERS = (
        "onnxruntime-flatbuffers",
        "the calibration table that ONNX Runtime's TensorRT provider reads; the next two stand beside it",
    )
    ONNXRUNTIME_JSON = "onnxruntime-json"
    ONNXRUNTIME_TEXT = "onnxruntime-text"
    PPQ = "ppq", "PPQ's JSON"
    RANGES = "ranges", 'lines of "name: range" as sampleINT8API reads them'
    TRTCAL = "trtcal", "readable JSON that loses nothing"


def listed() -> str:
    """All of them in one line, for help texts."""
    return ", ".join(f"{name.value} ({name.what})" if name.what else name.value for name in FormatName)
