"""Groups of tensors that share a scale, divided where ranges are so unlike that the smaller would drown."""

from collections.abc import Collection, Iterator, Mapping, Sequence

from calibrators.statistics.file import ScaleGroup

MUCH_SMALLER = 4
"""How many times the range of a tensor fits into its group's before it has a scale of its own: two bits are lost
below that."""


def divided(group: ScaleGroup, amax: Mapping[str, float]) -> tuple[ScaleGroup, ...]:
    """Divide a group so that no tensor shares the scale of one whose range is over `MUCH_SMALLER` times its own.

    1. What an operator takes of a tensor (a Slice, a half of a Split, a pooling) reaches as far as its own range says,
       and no further than the tensor.
    2. A concatenation reaches as far as its operands; where one of these is not known, its own range counts, too.
    3. Tensors that reach far enough stay together. Of the others, those that are connected are divided alike.

    Between Q/DQ nodes this costs a pair more; TensorRT's caches have one scale for the whole group.

    Args:
        group: In topological order; one that does not tell its origins stays whole.
        amax: The largest magnitude of each tensor, or its scale, as far as it is known; 0 says nothing of a part.
    """
    if not group.origins:
        return (group,)
    origins = dict(group.origins)
    reach = _reach(group, origins, amax)
    return tuple(
        ScaleGroup(tuple(part), tuple(name for name in part if _decides(name, group, origins, reach, part)))
        for part in _parts(group.members, origins, reach)
    )


def _reach(group: ScaleGroup, origins: Mapping[str, Sequence[str]], amax: Mapping[str, float]) -> dict[str, float]:
    """How far the values of each tensor go, where that is known."""
    reach: dict[str, float] = {}
    for name in group.members:
        before, own = origins.get(name, ()), amax.get(name)
        known = [reach[each] for each in before if each in reach]
        if len(known) == len(before) == 1 and name not in group.sources:
            reach[name] = min(known[0], own or known[0])
        elif len(known) == len(before) > 1 and name not in group.sources:
            reach[name] = max(known)
        elif own is not None:
            reach[name] = max([*known, own])
    return reach


def _parts(
    members: Sequence[str], origins: Mapping[str, Sequence[str]], reach: Mapping[str, float]
) -> Iterator[list[str]]:
    top = max((reach.get(name, 0.0) for name in members), default=0.0)
    far = [name for name in members if 0 < reach.get(name, 0.0) * MUCH_SMALLER < top]
    yield [name for name in members if name not in set(far)]
    for part in _connected(far, origins):
        yield from _parts(part, origins, reach)


def _connected(members: Sequence[str], origins: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Members that come from one another, together; in their order."""
    parts: list[list[str]] = []
    for name in members:
        joined = [part for part in parts if not set(part).isdisjoint(origins.get(name, ()))]
        parts = [part for part in parts if part not in joined]
        parts.append([*(each for part in joined for each in part), name])
    return parts


def _decides(
    name: str,
    group: ScaleGroup,
    origins: Mapping[str, Sequence[str]],
    reach: Mapping[str, float],
    part: Collection[str],
) -> bool:
    """Whether a tensor's own range counts in its part: nothing in it says how far the tensor reaches."""
    if name in group.sources:
        return True
    before = origins.get(name, ())
    told = any(each in part for each in before) and all(each in reach for each in before)
    return name in reach and not told
