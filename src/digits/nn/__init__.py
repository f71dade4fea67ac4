"""A neural network in NumPy alone; it knows nothing of digits or of Kaggle."""

from digits.nn.layers import LAYERS, Dense, Dropout, Flatten, Layer, ReLU
from digits.nn.losses import SoftmaxCrossEntropy, softmax
from digits.nn.network import CheckpointError, Network, read_arrays, write_arrays
from digits.nn.optim import OPTIMIZERS, SGD, AdamW, Optimizer, Schedule
from digits.nn.parallel import DataParallel, Workers, probabilities
from digits.nn.pixels import Array, Pixels, Shape

__all__ = [
    "LAYERS",
    "OPTIMIZERS",
    "SGD",
    "AdamW",
    "Array",
    "CheckpointError",
    "DataParallel",
    "Dense",
    "Dropout",
    "Flatten",
    "Layer",
    "Network",
    "Optimizer",
    "Pixels",
    "ReLU",
    "Schedule",
    "Shape",
    "SoftmaxCrossEntropy",
    "Workers",
    "probabilities",
    "read_arrays",
    "softmax",
    "write_arrays",
]
