"""`--skip`: layers that stay in float, said on the command line as `[skip]` says it in a file."""

import os
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from calibrators.errors import ConfigError
from trtcal.config.layer_settings import LayerSettings
from trtcal.config.rules import Skip
from trtcal.config.settings import QuantConfig
from trtcal.config.toml_file import nearest

KEYS = tuple(each.name.replace("_", "-") for each in fields(Skip))
"""What stands before the equals sign: names, types, first-convolutions, last-convolutions."""

LISTS = ("names", "types")
"""Those whose values are separated by commas, and that may be given again; the others are numbers."""


def configured(
    config: str | os.PathLike[str] | None, skip: Sequence[str], *, default: LayerSettings | None = None
) -> QuantConfig | None:
    """The settings of a file, if one is given, with what texts such as "types=Gemm,MatMul" leave in float beside it.

    Args:
        config: The file.
        skip: ``KEY=VALUE`` with a key of `KEYS`. A name may be a glob; it is told from the next one by a comma, so that
            one that holds a comma goes into a file.
        default: Of all layers, where there is no file.

    Returns:
        None where neither is given.

    Raises:
        ConfigError: The file cannot be read or followed; a text is none of these; a number is given twice.
    """
    if config is None and not skip:
        return None
    settings = QuantConfig(default or LayerSettings()) if config is None else QuantConfig.load(config)
    counts: dict[str, Any] = {}
    for text in skip:
        key, value = _parted(text)
        if key in LISTS:
            listed: dict[str, Any] = {key: [each.strip() for each in value.split(",")]}
            settings.skip(**listed)
        elif key in counts:
            raise ConfigError(f"--skip gives {key} twice: give it once")
        elif not (value.isascii() and value.isdecimal()) or len(value) > 9:
            raise ConfigError(
                f"--skip {text}: {key} is a whole number, such as {key}=1; give other keys in a --skip each"
            )
        else:
            counts[key] = int(value)
    return settings.skip(**{key.replace("-", "_"): count for key, count in counts.items()})


def _parted(text: str) -> tuple[str, str]:
    """Key and value, of which neither is empty."""
    key, equals, value = text.partition("=")
    key, value = key.strip(), value.strip()
    examples = "names=HEAD*, types=Gemm,MatMul, first-convolutions=1 or last-convolutions=1"
    if not equals:
        raise ConfigError(
            f"--skip {text}: does it name layers (names={text}) or operators (types={text})? Write {examples}"
        )
    if key not in KEYS:
        meant = next((f" (did you mean {each!r}?)" for each in KEYS if key and each.startswith(key)), "")
        near = meant or nearest(key, KEYS, closeness=0.4)
        raise ConfigError(f"--skip {text}: there is no {key!r}{near}: write {examples}")
    if not all(each.strip() for each in value.split(",")):
        raise ConfigError(f"--skip {text}: there is nothing to skip: write {examples}")
    return key, value
