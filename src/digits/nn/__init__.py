"""A neural network in NumPy alone; it knows nothing of digits or of Kaggle."""

from digits.nn.averaging import AVERAGES, EMA, SWA, Average, NoAverage
from digits.nn.folding import folded
from digits.nn.layers import (
    LAYERS,
    AvgPool2D,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool,
    Layer,
    MaxPool2D,
    ReLU,
    Residual,
    SiLU,
    SpatialDropout,
    layer_of,
)
from digits.nn.losses import SoftmaxCrossEntropy, softmax
from digits.nn.network import CheckpointError, Network, read_arrays, write_arrays
from digits.nn.optim import OPTIMIZERS, SGD, Adam, AdamW, Muon, Optimizer, Schedule
from digits.nn.parallel import FORKS, DataParallel, WorkerError, Workers, probabilities, renew_statistics
from digits.nn.pixels import Pixels
from digits.nn.scratch import Array, Shape, shared_zeros

__all__ = [
    "AVERAGES",
    "EMA",
    "FORKS",
    "LAYERS",
    "OPTIMIZERS",
    "SGD",
    "SWA",
    "Adam",
    "AdamW",
    "Array",
    "Average",
    "AvgPool2D",
    "BatchNorm",
    "CheckpointError",
    "Conv2D",
    "DataParallel",
    "Dense",
    "Dropout",
    "Flatten",
    "GlobalAvgPool",
    "Layer",
    "MaxPool2D",
    "Muon",
    "Network",
    "NoAverage",
    "Optimizer",
    "Pixels",
    "ReLU",
    "Residual",
    "Schedule",
    "Shape",
    "SiLU",
    "SoftmaxCrossEntropy",
    "SpatialDropout",
    "WorkerError",
    "Workers",
    "folded",
    "layer_of",
    "probabilities",
    "read_arrays",
    "renew_statistics",
    "shared_zeros",
    "softmax",
    "write_arrays",
]
