"""How pip finds this package again, to add an extra to it: from a checkout, an archive, a repository or an index."""

import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent
"""The folder that the packages are in: a checkout, or where pip installs to."""


def pip_install(*extras: str) -> str:
    """The command that installs this package once more, with extras.

    What runs from a checkout, installed from there or not, is found there. Anything else is found where pip has it from
    (`direct_url.json` of PEP 610), or by its name.
    """
    wanted = f"[{','.join(extras)}]" if extras else ""
    if (ROOT / "pyproject.toml").is_file():
        return f'pip install -e "{_shown(ROOT)}{wanted}"'
    origin = _origin()
    if "dir_info" in origin:
        folder = Path(unquote(urlsplit(origin["url"]).path))
        return f'pip install "{_shown(folder)}{wanted}"'
    if "vcs_info" in origin:
        how = origin["vcs_info"]
        return f'pip install "trtcal{wanted} @ {how["vcs"]}+{origin["url"]}@{how["commit_id"]}"'
    if origin:
        return f'pip install "trtcal{wanted} @ {origin["url"]}"'
    return f'pip install "trtcal{wanted}"'


def _shown(folder: Path) -> str:
    return "." if folder == Path.cwd() else str(folder)


def _origin() -> Mapping[str, Any]:
    """Where pip has the package from, in the words of PEP 610; empty for an index, or where nothing says."""
    try:
        text = importlib.metadata.distribution("trtcal").read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        return {}
    return dict(json.loads(text)) if text else {}
