"""One of several processes that train a model together: ``ranks.py RANK RANKS FOLDER cpu|cuda`` leaves RANK.pt there.

On GPUs each process has one of its own and they talk through NCCL, which needs that; where there are too few, they
share one and talk through gloo. Neither was run on a GPU yet.
"""

import sys
from pathlib import Path

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from tests.trtcal.qat.networks import IMAGES, Residual, images, settled
from trtcal.config.layer_settings import LayerSettings
from trtcal.config.settings import QuantConfig
from trtcal.qat import QAT, disable_quantizers, enable_quantizers
from trtcal.qat.distributed import ranks

CASES = [
    ("lsq", "lsq", True),
    ("lsq+", "lsq+", False),
    ("pact", "absmax", True),
    ("learned-range", "learned-range", False),
    ("moving-average-absmax", "absmax", False),
]
"""Quantizers of activations and weights, and whether the activations' grid is symmetric."""


def prepared(activation: str, weight: str, symmetric: bool) -> nn.Module:
    config = QuantConfig(LayerSettings(activation=activation, weight=weight, activation_bits=4, symmetric=symmetric))
    return QAT(config, freeze_batch_norm_after=2).quantize(settled(Residual(), *IMAGES).train())


def batch() -> torch.Tensor:
    """Of which each process has a part: these differ in size and in sign."""
    x = images(*IMAGES)
    return torch.cat([x[:6].abs(), 3 * x[6:]])


def train(model: nn.Module, x: torch.Tensor, steps: int) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(steps):
        loss = (model(x) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def main(rank: int, count: int, folder: Path, kind: str) -> None:
    torch.set_num_threads(1)
    enough = kind == "cuda" and torch.cuda.device_count() >= count
    device = torch.device("cuda", rank if enough else 0) if kind == "cuda" else torch.device("cpu")
    if kind == "cuda":
        torch.cuda.set_device(device)  # NCCL's collectives of objects use the current one
    distributed.init_process_group(
        "nccl" if enough else "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=count
    )
    assert ranks() == count
    part = batch().chunk(count)[rank].to(device)
    found = {}
    for case in CASES:
        model = DistributedDataParallel(prepared(*case).to(device))
        model(part)
        quantizer = model.module.conv.input_quantizer
        first = {
            key: each.detach().clone() for key, each in (*quantizer.named_parameters(), *quantizer.named_buffers())
        }
        train(model, part, 3)
        disable_quantizers(model.module)
        train(model, part, 1)
        enable_quantizers(model.module)
        train(model, part, 1)
        found[case] = first, model.module.state_dict()
    torch.save(found, folder / f"{rank}.pt")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
