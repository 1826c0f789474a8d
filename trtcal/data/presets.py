"""The presets of preprocessing, by name, in the words of `Preprocess.from_dict`: the one place that a new one goes to.

`imagenet` is torchvision's; `imagenet-tf` gives -1 to 1; `imagenet-caffe` is also Keras's for ResNet and VGG; `unit`
gives 0 to 1; `raw`, 0 to 255; `none` feeds arrays as they are. Those without a resize scale images of another size than
the model's exactly to it. With `adapts`, sizes are scaled to those of a model that fixes them.

Nothing is imported here: the command line's help lists the names.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

_CROP = {"resize": {"mode": "short-side", "size": 256}, "crop": [224, 224], "adapts": True}
_MEAN, _STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]

STATED: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "imagenet": {**_CROP, "channels": "RGB", "scale": 1 / 255, "mean": _MEAN, "std": _STD},
        "imagenet-tf": {**_CROP, "channels": "RGB", "scale": 1 / 127.5, "mean": 1.0},
        "imagenet-caffe": {**_CROP, "channels": "BGR", "mean": [103.939, 116.779, 123.68]},
        "unit": {"scale": 1 / 255},
        "raw": {},
        "cifar10": {"channels": "RGB", "scale": 1 / 255, "mean": _MEAN, "std": _STD},
        "mnist": {"channels": "grey", "scale": 1 / 255},
        "none": {"as_is": True},
    }
)
