"""Which candidate to deploy: the fastest that holds the bound, or, where none was timed, the cheapest."""

from collections.abc import Sequence

from trtcal.optimization.measuring import in_words
from trtcal.optimization.result import Candidate


def chosen(candidates: Sequence[Candidate]) -> Candidate | None:
    """Of those that hold the bound: the fastest, or the cheapest where none was timed; None where none holds it.

    The first of equals, so that candidates are given with what computes most cheaply first.
    """
    holding = [each for each in candidates if each.holds]
    timed = [each for each in holding if each.throughput]
    if timed:
        return max(timed, key=lambda each: each.throughput or 0.0)
    return min(holding, key=lambda each: each.cost, default=None)


def sentence(candidates: Sequence[Candidate], taken: Candidate | None, measure: str, max_drop: float) -> str:
    """Why one was chosen, or none, in one sentence."""
    if taken is None:
        best = min(candidates, key=lambda each: (each.measured.drop, each.cost))
        over = best.measured.drop - max_drop
        missed = f"{over:.2f} more than the {max_drop:g} allowed" if over > 0 else "but not on the images before"
        return f"no candidate holds the bound: the best, {best.name}, {in_words(best.measured.drop, measure)}, {missed}"
    kept = f"it {in_words(taken.measured.drop, measure)}, of the {max_drop:g} that may be lost"
    int8 = next((each for each in candidates if each.name == "int8"), None)
    missed = f"; int8 does not hold it: it {in_words(int8.measured.drop, measure)}" if int8 and not int8.holds else ""
    if taken.throughput:
        return f"{taken.name} is the fastest that holds the bound: {kept}{missed or _pays_not(taken, int8)}"
    about = f"with {taken.cost:.0f} % of FP32's multiply-accumulates x bits"
    return f"{taken.name} is the cheapest that holds the bound, {about}: {kept}{missed}"


def _pays_not(taken: Candidate, int8: Candidate | None) -> str:
    """Where INT8 holds the bound and is not the fastest: that it does not pay, with numbers."""
    if int8 is None or taken is int8:
        return ""
    if int8.throughput is None or taken.throughput is None:
        return "; int8 was not timed"
    return (
        f"; INT8 does not pay here: {int8.throughput:,.0f} samples a second, {taken.throughput:,.0f} in "
        f"{taken.name.upper()}"
    )
