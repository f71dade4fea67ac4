"""What training makes small."""

from dataclasses import dataclass

import numpy as np

from digits.nn.scratch import Array


def softmax(logits: Array) -> Array:
    """p = exp(z) / the sum of exp(z) over K, z shifted by its maximum lest it overflow      z, p: (N, K)"""
    p: Array = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    return p


@dataclass
class SoftmaxCrossEntropy:
    """L = the sum over N of -t · log softmax(z)      z: (N, K)   labels: (N,) integers below K, or targets (N, K)

    The target t is 1 - s of the label's one-hot vector, or of the target given, plus s / K everywhere, s being the
    label smoothing (Szegedy et al. 2016, arXiv 1512.00567). dL/dz = softmax(z) - t.
    """

    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must be at least 0 and less than 1, not {self.label_smoothing}")

    def forward(self, logits: Array, labels: Array) -> tuple[float, int]:
        """The loss, summed over the N images, and how many of them have the largest logit at their label.

        `losses` (N,) are those of the images afterwards, one each. Where `labels` are targets (N, K), each row adding
        up to 1, the label is where the target is largest.
        """
        self.labels = labels
        z = np.ascontiguousarray(logits.T)  # classes first: NumPy is quickest at reducing over the first axis
        z = z - z.max(axis=0)
        soft = labels.ndim == 2
        classes = labels.argmax(axis=1) if soft else labels.astype(np.intp)  # bytes would overflow
        self.places = classes * len(labels) + np.arange(len(labels))
        at_label = z.reshape(-1)[self.places]
        correct = int(np.count_nonzero(at_label >= 0))
        s = self.label_smoothing
        losses = -(1 - s) * ((labels.T * z).sum(axis=0) if soft else at_label)
        if s:
            losses -= s * z.mean(axis=0)
        np.exp(z, out=z)
        total = z.sum(axis=0)
        losses += np.log(total)
        z /= total
        self.p, self.losses = z, losses
        return float(losses.sum()), correct

    def backward(self, batch: int) -> Array:
        """dL/dz / batch, (N, K): `batch` is the size of the whole batch of which these N images are a shard."""
        dz: Array = self.p
        if self.labels.ndim == 2:
            dz -= (1 - self.label_smoothing) * self.labels.T
        else:
            dz.reshape(-1)[self.places] -= 1 - self.label_smoothing
        if self.label_smoothing:
            dz -= self.label_smoothing / len(dz)
        dz /= batch
        return dz.T
