"""PyTorch, which the extra [torch] installs."""

import importlib

from calibrators.errors import MissingDependencyError, one_line
from calibrators.installation import pip_install


def require_torch() -> None:
    """Import PyTorch.

    Raises:
        MissingDependencyError: It is not installed, or does not import.
    """
    try:
        importlib.import_module("torch")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "torch":
            raise MissingDependencyError(f"PyTorch does not import ({one_line(error)}): install it again") from error
        raise MissingDependencyError(
            f"quantization in PyTorch needs PyTorch, which is not installed: {pip_install('torch')}"
        ) from error
    except (ImportError, OSError) as error:
        raise MissingDependencyError(f"PyTorch does not import ({one_line(error)}): install it again") from error
