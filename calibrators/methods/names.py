"""What the range methods are called, in the order in which lists have them: a new method's name goes here.

Nothing is imported here: the command line's help lists the names.
"""

from collections.abc import Mapping
from types import MappingProxyType

REMARKS: Mapping[str, str] = MappingProxyType(
    {
        "entropy": "",
        "minmax": "or absmax",
        "mean": "",
        "percentile": "99.99; another such as percentile:99.9",
        "mse": "",
        "emd": "",
        "emd-moments": "",
        "aciq": "",
        "lsq-scale": "",
        "sqnr": "",
        "best": "",
    }
)
"""By name, what help texts say of it in brackets; the default method first, and last the one that chooses."""


def listed() -> str:
    """The names in one line, for help texts."""
    return ", ".join(f"{name} ({remark})" if remark else name for name, remark in REMARKS.items())
