"""The bound on what quantization may cost."""

from calibrators.errors import CheckFailedError, TrtcalError
from trtcal.measure.chance import Criterion, drop_of, measure_named
from trtcal.measure.measures import Score
from trtcal.measure.report import Report


def check_drop(report: Report, max_drop: float) -> None:
    """Require that no model is more than `max_drop` percentage points of top-1 under the reference.

    Without labels, the bound is on the percentage of samples where a model's class is not the reference's.

    Raises:
        CheckFailedError: The bound is broken; the message names every model that breaks it.
        TrtcalError: The bound is no number from 0 to 100, or nothing was measured that it could hold for.
    """
    require_bound(max_drop)
    compared = {name: each for name, each in report.scores.items() if name != report.reference}
    if report.reference is None or not compared:
        raise TrtcalError("a bound on the drop needs a reference beside the model: give two models, or --reference")
    failures = []
    for name, each in compared.items():
        lost, told = _loss(name, each, report.criterion)
        if lost > max_drop * (1 + 1e-12):  # 0.35 % of 2,000 is 7.000000000000001
            failures.append(told)
    if failures:
        agreement = report.criterion != "task" and not all(each.top1.total for each in compared.values())
        raise CheckFailedError(
            f"{'; '.join(failures)}: more than the {max_drop:g} {'%' if agreement else 'points'} allowed"
        )


def require_bound(max_drop: float) -> None:
    """Refuse a bound on the drop that means nothing, before any work is done for it.

    Raises:
        TrtcalError: It is no number from 0 to 100.
    """
    if not 0 <= max_drop <= 100:
        raise TrtcalError(f"the drop allowed must be from 0 to 100 points, not {max_drop:g}")


def _loss(name: str, each: Score, criterion: Criterion) -> tuple[float, str]:
    """What a model loses against the reference, in points or percent of the images, and that in words.

    Raises:
        TrtcalError: Nothing was measured of it that could be lost.
    """
    if criterion == "task":
        lost, measure = drop_of(each, criterion), measure_named(criterion, each)
        return lost, f"{name} drops {measure} by {lost:.2f} points"
    if each.top1.total:
        images = each.lost - each.gained
        return each.drop, f"{name} drops top-1 by {each.drop:.2f} points ({images} of {each.top1.total} images)"
    if not each.agreement.total:
        raise TrtcalError(
            f"a bound on the drop needs class scores, and no single output of {name} holds them: say what it finds "
            "with --task, such as --task detect"
        )
    others, total = each.agreement.total - each.agreement.hits, each.agreement.total
    lost = 100 * others / total
    return lost, f"{name} differs from the reference's class for {lost:.2f} % ({others} of {total} images)"
