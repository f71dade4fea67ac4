"""A neural network in NumPy alone; it knows nothing of digits or of Kaggle."""

from digits.nn.layers import LAYERS, Array, Dense, Dropout, Flatten, Layer, ReLU, Shape
from digits.nn.losses import SoftmaxCrossEntropy, softmax
from digits.nn.network import CheckpointError, Network, read_arrays, write_arrays
from digits.nn.optim import OPTIMIZERS, SGD, AdamW, Optimizer, Schedule
from digits.nn.parallel import DataParallel, Workers, probabilities

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
