"""PyTorch, given every chance: both layouts in memory, eager and compiled, fused Adam, a thread a core.

It rounds subnormal numbers to 0: left in, as they are unless it is told, they slow Adam down on some processors as soon
as there are units that are never active.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from contenders.networks import CLASSES, IMAGE, PREDICTED, network
from contenders.serving import Job, Step, serve
from digits.nn import (
    AvgPool2D,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool,
    Layer,
    MaxPool2D,
    Network,
    ReLU,
    Residual,
    SiLU,
    SpatialDropout,
)

POOL = 2048  # images in memory, to train on


class Flattened(nn.Module):
    """Channels last, as the kit has them."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.permute(0, 2, 3, 1).flatten(1)


class Sum(nn.Module):
    """y = f(x) + P x"""

    def __init__(self, f: nn.Module, projection: nn.Module) -> None:
        super().__init__()
        self.f = f
        self.projection = projection

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.f(x) + self.projection(x)
        return out


def model_of(network: Network) -> nn.Sequential:
    """The same network in PyTorch, for images (N, C, H, W), its parameters in the same order."""
    return nn.Sequential(*map(module_of, network.layers))


def module_of(layer: Layer) -> nn.Module:
    """The same layer in PyTorch; it must have been built. Raises TypeError if there is none."""
    match layer:
        case Dense():
            return nn.Linear(layer.inputs, layer.units)
        case Conv2D():
            return convolution_of(layer)
        case BatchNorm():
            kind = nn.BatchNorm2d if len(layer.output_shape) == 3 else nn.BatchNorm1d
            return kind(layer.channels, layer.epsilon, layer.momentum)
        case ReLU():
            return nn.ReLU()
        case SiLU():
            return nn.SiLU()
        case MaxPool2D():
            return nn.MaxPool2d(layer.size)
        case AvgPool2D():
            return nn.AvgPool2d(layer.size)
        case GlobalAvgPool():
            return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        case SpatialDropout():
            return nn.Dropout2d(layer.rate)
        case Dropout():
            return nn.Dropout(layer.rate)
        case Flatten():
            one_axis = len(layer.shape) == 1 or layer.shape[-1] == 1 or layer.shape[:2] == (1, 1)
            return nn.Flatten() if one_axis else Flattened()
        case Residual():
            projection = module_of(layer.projection) if layer.projection else nn.Identity()
            return Sum(nn.Sequential(*map(module_of, layer.inner)), projection)
    raise TypeError(f"PyTorch has no {layer.name}")


def convolution_of(layer: Conv2D) -> nn.Module:
    """The convolution, after a layer that pads where the padding differs from side to side."""
    g = layer.geometry
    if layer.padding == "same":
        (top, bottom), (left, right) = same(g.height, g.kernel, g.stride), same(g.width, g.kernel, g.stride)
    else:
        top = bottom = left = right = 0 if layer.padding == "valid" else layer.padding
    even = (top, left) == (bottom, right)
    padding = (top, left) if even else 0
    convolution = nn.Conv2d(g.channels, layer.channels, layer.kernel, layer.stride, padding, bias=layer.bias)
    return convolution if even else nn.Sequential(nn.ZeroPad2d((left, right, top, bottom)), convolution)


def same(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """The zeros before and after `size` pixels with which a stride leaves one of each `stride`, rounded up."""
    zeros = max(kernel - (size % stride or stride), 0)
    return zeros // 2, zeros - zeros // 2


@contextmanager
def prepare(job: Job) -> Iterator[Step]:
    """A step of training, or the probabilities of all images in memory.

    A variant may say "channels last", "compiled" and, in prediction, "1,024 at a time" instead of 256.
    """
    torch.set_flush_denormal(True)  # before there are threads, which begin with what this one has
    torch.set_num_threads(job.cores)
    torch.manual_seed(0)
    form = torch.channels_last if "channels last" in job.variant else torch.contiguous_format
    model = model_of(network(job.network)).to(memory_format=form)
    height, width, channels = IMAGE
    size = POOL if job.what == "train" else PREDICTED
    images = torch.rand(size, channels, height, width).contiguous(memory_format=form)
    labels = torch.randint(0, CLASSES, (size,))
    run = torch.compile(model) if "compiled" in job.variant else model
    if job.what == "train":
        yield training(job, model, run, images, labels)
    else:
        yield prediction(model, run, images, 1024 if "1,024 at a time" in job.variant else 256)
    torch.compiler.reset()


def training(job: Job, model: nn.Module, run: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> Step:
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    at = 0

    def step() -> int:
        nonlocal at
        at = (at + job.batch) % POOL
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(run(images[at : at + job.batch]), labels[at : at + job.batch])
        loss.backward()
        optimizer.step()
        loss.item()
        return job.batch

    return step


def prediction(model: nn.Module, run: nn.Module, images: torch.Tensor, size: int) -> Step:
    model.eval()

    def step() -> int:
        with torch.inference_mode():
            return len(torch.cat([run(batch).softmax(1) for batch in images.split(size)]))

    return step


def libraries() -> list[str]:
    """What PyTorch multiplies with, and for which instructions."""
    lines = [line.strip(" -") for line in torch.__config__.show().splitlines()]
    return [
        line for line in lines if "Kernel Library" in line or "MKL-DNN" in line or line.startswith("CPU capability")
    ]


if __name__ == "__main__":
    serve(prepare, "torch", blas=libraries())
