"""Which model ranges are of: statistics and caches say it by its SHA-256, and those of another are refused."""

from calibrators.errors import CacheMismatchError

SHOWN = 12
"""Characters of a SHA-256 that tell two models apart in a message."""


def of_another(theirs: str, ours: str) -> bool:
    """Whether two models are known by their SHA-256 and are not the same; "" is that of one that is not known."""
    return bool(theirs and ours) and theirs != ours


def require_model(theirs: str, ours: str, *, ranges: str, model: str, advice: str) -> None:
    """Refuse ranges of another model.

    Args:
        theirs: SHA-256 of the model that they are of; "" where it is not known.
        ours: That of the model they are for; "" leaves it uncompared.
        ranges: What they are and how they came about, such as "the statistics were gathered from".
        model: What a message calls the model that they are for.
        advice: What to do.

    Raises:
        CacheMismatchError: The two differ.
    """
    if of_another(theirs, ours):
        raise CacheMismatchError(
            f"{ranges} another model (SHA-256 {theirs[:SHOWN]}...) than {model} ({ours[:SHOWN]}...): {advice}"
        )
