"""What stays in float, in words."""

from collections.abc import Mapping

from engines.build.layer_plan import some


def left_in_float(left: Mapping[str, str]) -> list[str]:
    """A line for each reason, with the first of the layers that it holds for.

    Args:
        left: Label of each layer that stays in float -> why.
    """
    layers = dict[str, list[str]]()
    for name, why in left.items():
        layers.setdefault(why, []).append(name)
    return [f"left in float: {some(names)}, for {why}" for why, names in layers.items()]
