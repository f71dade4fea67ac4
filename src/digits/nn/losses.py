"""What training makes small."""

from dataclasses import dataclass

import numpy as np

from digits.nn.layers import Array


def softmax(logits: Array) -> Array:
    """p = exp(z) / the sum of exp(z) over K, z shifted by its maximum lest it overflow      z, p: (N, K)"""
    p: Array = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    return p


@dataclass
class SoftmaxCrossEntropy:
    """L = the sum over N of -t · log softmax(z)      z: (N, K)   labels: (N,) integers below K

    The target t is (1 - s) at the label plus s / K everywhere, s being the label smoothing (Szegedy et al. 2016,
    arXiv 1512.00567). dL/dz = softmax(z) - t.
    """

    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must be at least 0 and less than 1, not {self.label_smoothing}")

    def forward(self, logits: Array, labels: Array) -> float:
        """The loss, summed over the N images; keeps what `backward` needs."""
        self.labels = labels
        self.images = np.arange(len(labels))
        shifted = logits - logits.max(axis=1, keepdims=True)
        self.p = np.exp(shifted)
        total = self.p.sum(axis=1, keepdims=True)
        self.p /= total
        log_total = float(np.log(total).sum())
        s = self.label_smoothing
        loss = log_total - (1 - s) * float(shifted[self.images, labels].sum())
        if s:
            loss -= s * float(shifted.mean(axis=1).sum())
        return loss

    def backward(self, batch: int) -> Array:
        """dL/dz / batch, (N, K): `batch` is the size of the whole batch of which these N images are a shard."""
        dz: Array = self.p
        dz[self.images, self.labels] -= 1 - self.label_smoothing
        if self.label_smoothing:
            dz -= self.label_smoothing / dz.shape[1]
        dz /= batch
        return dz
