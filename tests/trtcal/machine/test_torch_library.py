"""PyTorch is optional: what asks for it says how to install it, and nothing else loads it."""

import re
import subprocess
import sys

import pytest

from calibrators.errors import MissingDependencyError
from calibrators.installation import pip_install
from trtcal.machine.torch_library import require_torch


def test_without_pytorch_the_message_says_what_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingDependencyError, match=f"not installed: {re.escape(pip_install('torch'))}"):
        require_torch()


def test_so_does_importing_the_package_and_anything_in_it():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import trtcal\n"
        "from trtcal.config.settings import QuantConfig\n"
        "QuantConfig().add_name_config('fc', activation='lsq+', weight='lsq')\n"
        "from calibrators.errors import MissingDependencyError\n"
        "for name in ('trtcal.qat', 'trtcal.qat.functional', 'trtcal.qat.training'):\n"
        "    try:\n"
        "        __import__(name)\n"
        "    except MissingDependencyError as error:\n"
        "        print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.count(pip_install("torch")) == 3


def test_a_library_that_pytorch_misses_is_another_matter(monkeypatch, tmp_path):
    (tmp_path / "torch.py").write_text("import something_that_torch_needs\n")
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingDependencyError, match=r"does not import .*something_that_torch_needs.*install it again"):
        require_torch()
    (tmp_path / "torch.py").write_text("raise OSError('libtorch.so: cannot open')\n")
    with pytest.raises(MissingDependencyError, match=r"does not import .*libtorch"):
        require_torch()
