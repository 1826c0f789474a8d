"""Small PyTorch models, each with something that quantization meets."""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional


class Basic(nn.Module):
    """ResNet's block, with a convolution on the skip path where the shapes differ."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.down = None
        if stride > 1 or inputs != outputs:
            self.down = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        skip = x
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        if self.down is not None:
            skip = self.down(x)
        out += skip
        return self.relu(out)


class Padded(nn.Module):
    """The same with a skip path that drops pixels and pads channels, as ResNet-20 has it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.more = outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        skip = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.more // 2, self.more - self.more // 2))
        return functional.relu(out + skip)


class Residual(nn.Module):
    """A small ResNet."""

    def __init__(self, padded: bool = False) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 8, 3, 1, 1), nn.BatchNorm2d(8)
        self.layer1 = nn.Sequential(Basic(8, 8), Basic(8, 8))
        self.layer2 = Padded(8, 16) if padded else Basic(8, 16, 2)
        self.fc = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn(self.conv(x)))
        x = self.layer2(self.layer1(x))
        return self.fc(torch.flatten(functional.adaptive_avg_pool2d(x, 1), 1))


class Inverted(nn.Module):
    """MobileNet's inverted residual, and a squeeze."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        self.block = nn.Sequential(
            nn.Conv2d(8, 16, 1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU6(),
            nn.Conv2d(16, 16, 3, 1, 1, groups=16, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU6(),
            nn.Conv2d(16, 8, 1, bias=False),
            nn.BatchNorm2d(8),
        )
        self.squeeze, self.excite = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(8, 5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.block(x)
        weight = functional.adaptive_avg_pool2d(x, 1)
        x = x * torch.sigmoid(self.excite(torch.relu(self.squeeze(weight))))
        return self.head(x.mean((2, 3)))


class Segmenter(nn.Module):
    """Up and down, with concatenation, transposed convolutions and no classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.down = nn.Conv2d(3, 6, 3, 1, 1), nn.Conv2d(6, 8, 3, 2, 1)
        self.up, self.norm = nn.ConvTranspose2d(8, 6, 2, 2), nn.BatchNorm2d(6)
        self.out = nn.Conv2d(12, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = torch.relu(self.enter(x))
        second = torch.relu(self.norm(self.up(torch.relu(self.down(first)))))
        return self.out(torch.cat([first, second], 1))


class Attention(nn.Module):
    """A transformer's block over (samples, positions, features), in matrix products of its own."""

    def __init__(self, features: int = 12, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(features)
        self.query, self.key, self.value, self.out = (nn.Linear(features, features) for _ in range(4))
        self.grow, self.shrink = nn.Linear(features, 2 * features), nn.Linear(2 * features, features)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        q, k, v = (
            each(y).unflatten(-1, (self.heads, -1)).transpose(1, 2) for each in (self.query, self.key, self.value)
        )
        weights = torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, -1)
        x = x + self.out(torch.matmul(weights, v).transpose(1, 2).flatten(2))
        return x + self.shrink(functional.gelu(self.grow(x)))


class Functions(nn.Module):
    """Weights that are no layer's."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel, self.bias = nn.Parameter(torch.randn(6, 3, 3, 3) * 0.2), nn.Parameter(torch.zeros(6))
        self.matrix = nn.Parameter(torch.randn(5, 6) * 0.3)
        self.projection = nn.Parameter(torch.randn(5, 4) * 0.3)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(functional.conv2d(x, self.kernel, self.bias, padding=1)).mean((2, 3))
        return functional.linear(x, self.matrix) @ self.projection


class Perceptron(nn.Module):
    """Linear layers with batch normalization."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Branching(nn.Module):
    """A part that cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
        self.branch = Branch()

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(torch.relu(self.first(x)))
        return self.branch(y + self.first(x))


class Branch(nn.Module):
    """Asks what its input is."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) if x.sum() > 0 else self.body(-x)


def settled(model: nn.Module, *shape: int, seed: int = 0) -> nn.Module:
    """A model with weights of its seed and batch normalization that has seen some batches; in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        values = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() > 1:
            parameter.data = values / parameter[0].numel() ** 0.5
        else:
            parameter.data = 0.1 * values + float(name.endswith("weight"))
    with torch.no_grad():
        for _ in range(3):
            model.train()(torch.randn(shape, generator=generator))
    return model.eval()


def exported(model: nn.Module, x: Tensor, path: Path) -> Path:
    """A model in ONNX, for any number of samples; by the older exporter, which is ten times as fast."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        axes = {"x": {0: "N"}, "y": {0: "N"}}
        names = {"input_names": ["x"], "output_names": ["y"], "dynamic_axes": axes}
        torch.onnx.export(model, (x,), path, dynamo=False, verbose=False, **names)
    return path


IMAGES = (12, 3, 12, 12)
"""A batch's shape."""


def images(*shape: int, seed: int = 1) -> Tensor:
    """A batch."""
    return torch.randn(shape or IMAGES, generator=torch.Generator().manual_seed(seed))
