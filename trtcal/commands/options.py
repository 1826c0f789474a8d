"""Options that several verbs share: the same words, the same meaning."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from trtcal import console

if TYPE_CHECKING:
    from trtcal.images import ImageLoader

FEW = 100
"""Images below which ranges are likely to change with the choice of images; NVIDIA's advice for ImageNet is 500."""

NOT_STATED = "warning: no --preprocess was given; taken by the model's input"
"""Most reports of INT8 losing all accuracy are two different preprocessings."""

Model = Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="The float model.", show_default=False)]
Preprocess = Annotated[
    str | None,
    typer.Option(
        help="How an image becomes the model's input: a preset (imagenet, imagenet-tf, imagenet-caffe, unit, raw, "
        "cifar10, mnist, none) or a TOML file (default: by the model's input).",
        metavar="NAME|FILE.toml",
        show_default=False,
    ),
]
Seed = Annotated[int, typer.Option(help="Of the choice of images.", metavar="N")]
BatchSize = Annotated[int, typer.Option(help="Images decoded together; it changes no result.", metavar="N", min=1)]
Count = Annotated[int, typer.Option(help="Images to use at most, each class its share.", metavar="N", min=1)]
OnBadImage = Annotated[
    Literal["error", "skip"],
    typer.Option(help="What to do about an image that cannot be decoded: stop, or leave it out and say so."),
]
Method = Annotated[str, typer.Option(help="How ranges are chosen: entropy or minmax.", metavar="NAME")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def say_what_was_calibrated_on(loader: "ImageLoader", *, stated: bool) -> None:
    """Tell, on standard error, what a user should know about the images that ranges rest on."""
    if not stated and not loader.preprocess.as_is:
        console.note(f"{NOT_STATED}: {loader.preprocess}; results mean nothing unless the model was trained with it")
    for name, reason in loader.skipped:
        console.note(f"skipped {name}: {reason}")
    used = loader.count - len(loader.skipped)
    if loader.count < loader.available:
        console.note(f"note: {loader.count} of {loader.available} images, by --count and --seed")
    if used < FEW:
        images = "1 image is" if used == 1 else f"{used} images are"
        console.note(f"note: {images} few to calibrate on; ranges settle with some hundreds")
