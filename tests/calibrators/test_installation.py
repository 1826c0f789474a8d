"""How pip finds the package again."""

import json
from pathlib import Path

import pytest

from calibrators import installation
from calibrators.installation import pip_install

CHECKOUT = Path(__file__).resolve().parents[2]


def test_from_a_checkout(monkeypatch, tmp_path):
    """Whatever is installed: this is the code that runs."""
    monkeypatch.chdir(CHECKOUT)
    assert pip_install("tensorrt") == 'pip install -e ".[tensorrt]"'
    assert pip_install() == 'pip install -e "."'
    monkeypatch.chdir(tmp_path)
    assert pip_install("demo", "torch") == f'pip install -e "{CHECKOUT}[demo,torch]"'


@pytest.mark.parametrize(
    ("origin", "command"),
    [
        (None, 'pip install "trtcal[rtx]"'),
        ({"url": "file:///src/my%20trtcal", "dir_info": {}}, 'pip install "/src/my trtcal[rtx]"'),
        (
            {"url": "file:///w/trtcal-0.1.0-py3-none-any.whl", "archive_info": {}},
            'pip install "trtcal[rtx] @ file:///w/trtcal-0.1.0-py3-none-any.whl"',
        ),
        (
            {"url": "https://host/trtcal", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
            'pip install "trtcal[rtx] @ git+https://host/trtcal@abc"',
        ),
    ],
    ids=["index", "folder", "archive", "repository"],
)
def test_installed_elsewhere(monkeypatch, tmp_path, origin, command):
    """By what pip has left in `direct_url.json`: a distribution as it writes one."""
    record = tmp_path / "trtcal-0.1.0.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: trtcal\nVersion: 0.1.0\n")
    if origin is not None:
        (record / "direct_url.json").write_text(json.dumps(origin))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(installation, "ROOT", tmp_path)
    assert pip_install("rtx") == command
