"""Options that several verbs share: the same words, the same meaning."""

from pathlib import Path
from typing import Annotated, Literal

import typer

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
