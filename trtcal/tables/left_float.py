"""What stays in float, in words."""

from collections.abc import Mapping


def left_in_float(left: Mapping[str, str]) -> list[str]:
    """A line for each reason, with the layers that it holds for: none stays in float unnamed.

    Args:
        left: Label of each layer that stays in float -> why.
    """
    layers = dict[str, list[str]]()
    for name, why in left.items():
        layers.setdefault(why, []).append(name)
    return [f"left in float: {', '.join(names)}, for {why}" for why, names in layers.items()]
