"""One thread for PyTorch: what is computed here is small, and the other cores are for other tests."""

import importlib.util

import pytest


@pytest.fixture(scope="session", autouse=True)
def single_thread():
    if importlib.util.find_spec("torch") is None:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
