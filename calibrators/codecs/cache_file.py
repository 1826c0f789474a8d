"""A file that should be a calibration cache: read, or refused with what it is instead and what makes a cache of it."""

import os
import shlex

from calibrators.cache.lookalikes import lookalike
from calibrators.cache.text import CalibrationCache, NoCacheError
from calibrators.codecs.formats import FORMATS, recognised
from calibrators.errors import CacheError


def load_cache(path: str | os.PathLike[str], *, alone: bool = False) -> CalibrationCache:
    """`CalibrationCache.load`, for files that users name.

    Raises:
        CacheError: It, or its side-car, cannot be read or is malformed; where it is another tool's file, the message
            says which, and what to do.
    """
    try:
        return CalibrationCache.load(path, alone=alone)
    except NoCacheError as error:
        raise recognised_instead(error) from error


def recognised_instead(error: NoCacheError) -> CacheError:
    """The error with what the file is instead of a cache, if that can be told; else the error itself."""
    name = recognised(error.data)
    if name in (None, "tensorrt"):
        what = lookalike(error.data)
    else:
        command = f"trtcal cache convert {shlex.quote(error.source)} -o NEW.cache"
        what = f"{FORMATS[name].title} (`{command}` makes a cache of it)"
    if what is None:
        return error
    return CacheError(
        f"{error.source} is no TensorRT calibration cache but {'' if error.binary else 'looks like '}{what}"
    )
