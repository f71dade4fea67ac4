"""Optimizers, gradient clipping and learning-rate schedules.

An optimizer's `update` is elementwise over flat vectors, so that it may be called on slices of them, from any worker
and in any order, with the same result. One that has `matrices` is given the weights of each hidden layer whole, as a
matrix of two axes. Weight decay is for the slices `decayed` of what it is given: weights, and neither biases nor norms.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from digits.nn.scratch import Array, thread_scratch

LOOK_STEPS = 64  # from one look at the smallest numbers of a mean to the next
STEPS = 5  # of Newton-Schulz
LEAST_LENGTH = 1e-7  # of what is orthogonalised, so that nothing is divided by 0
LEAST_DECAY = 0.8  # that is reckoned with: so what is set to 0 is less than two million times the smallest number


@dataclass(frozen=True)
class SGD:
    """v = momentum v + g,  w -= lr v      (Nesterov: w -= lr (g + momentum v))

    g is the gradient plus `weight_decay` w; where the decay is `decoupled`, g is the gradient alone, and first of all
    w -= lr weight_decay w (Loshchilov & Hutter 2019, arXiv 1711.05101). With momentum 0 both are plain gradient
    descent. Nesterov's form is that of Sutskever et al. 2013 (ICML 28), as PyTorch writes it.
    """

    name: ClassVar[str] = "sgd"
    matrices: ClassVar[bool] = False
    lr: float = 0.1
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    decoupled: bool = False

    def __post_init__(self) -> None:
        within(self, lr=(0, math.inf), momentum=(0, 1), weight_decay=(0, math.inf))
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum greater than 0")

    @property
    def states(self) -> tuple[str, ...]:
        """The names of the vectors, each like the parameters, that the optimizer keeps from step to step."""
        return ("velocity",) if self.momentum else ()

    def update(
        self, w: Array, g: Array, state: dict[str, Array], lr: float, step: int, decayed: Sequence[slice]
    ) -> None:
        """Change w in place, given the gradient g, which is used up; `step` counts from 1."""
        if self.decoupled:
            shrink(w, lr * self.weight_decay, decayed)
        else:
            penalise(g, w, self.weight_decay, decayed)
        if self.momentum:
            v = state["velocity"]
            forget(v, self.momentum, step)
            v *= self.momentum
            v += g
            if self.nesterov:
                g += np.multiply(v, self.momentum, out=thread_scratch("part", v.shape, v.dtype))
                g *= lr
            else:
                np.multiply(v, lr, out=g)
        else:
            g *= lr
        w -= g


@dataclass(frozen=True)
class Adam:
    """m = β1 m + (1 - β1) g,  v = β2 v + (1 - β2) g²,  w -= lr m̂ / (√v̂ + ε)

    m̂ = m / (1 - β1ᵗ) and v̂ = v / (1 - β2ᵗ) at step t; g is the gradient plus `weight_decay` w (Kingma & Ba 2015,
    arXiv 1412.6980). What is kept is m / (1 - β1) and v / (1 - β2), and all factors are moved into the last step's: the
    fewer passes over the vectors, the better.
    """

    name: ClassVar[str] = "adam"
    matrices: ClassVar[bool] = False
    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        within(self, lr=(0, math.inf), beta1=(0, 1), beta2=(0, 1), weight_decay=(0, math.inf))
        if not 0 < self.epsilon < math.inf:
            raise ValueError(f"epsilon must be greater than 0, not {self.epsilon}")

    @property
    def states(self) -> tuple[str, ...]:
        """The names of the vectors, each like the parameters, that the optimizer keeps from step to step."""
        return ("m", "v")

    def update(
        self, w: Array, g: Array, state: dict[str, Array], lr: float, step: int, decayed: Sequence[slice]
    ) -> None:
        """Change w in place, given the gradient g, which is used up; `step` counts from 1."""
        penalise(g, w, self.weight_decay, decayed)
        self._descend(w, g, state["m"], state["v"], lr, step)

    def _descend(self, w: Array, g: Array, m: Array, v: Array, lr: float, step: int) -> None:
        forget(m, self.beta1, step)
        forget(v, self.beta2, step)
        m *= self.beta1
        m += g
        v *= self.beta2
        g *= g
        v += g
        root = math.sqrt((1 - self.beta2**step) / (1 - self.beta2))  # √v̂ = √v / root
        np.sqrt(v, out=g)
        g += self.epsilon * root
        np.divide(m, g, out=g)
        g *= lr * root * (1 - self.beta1) / (1 - self.beta1**step)
        w -= g


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with the decay decoupled: w -= lr weight_decay w, and g is the gradient alone

    Loshchilov & Hutter 2019 (arXiv 1711.05101): what a weight loses does not depend on the size of its gradients.
    """

    name: ClassVar[str] = "adamw"
    weight_decay: float = 0.01

    def update(
        self, w: Array, g: Array, state: dict[str, Array], lr: float, step: int, decayed: Sequence[slice]
    ) -> None:
        """Change w in place, given the gradient g, which is used up; `step` counts from 1."""
        shrink(w, lr * self.weight_decay, decayed)
        self._descend(w, g, state["m"], state["v"], lr, step)


@dataclass(frozen=True)
class Muon(AdamW):
    """M = μ M + G,  W -= lr (0.2 √max(n, m) U + weight_decay W),  U being G + μ M made nearly orthogonal

    That is for W (n, m), the weights of a hidden layer as a matrix, and its gradient G; all else is AdamW's. By U a
    step goes equally far in all directions that the gradients have shown, the rare ones too (Jordan et al. 2024, "Muon:
    An optimizer for hidden layers in neural networks"). The factor before it makes a weight's step about as long as
    AdamW's, so that one learning rate suits both (Liu et al. 2025, arXiv 2502.16982).
    """

    name: ClassVar[str] = "muon"
    matrices: ClassVar[bool] = True
    weight_decay: float = 0.1
    momentum: float = 0.95

    def __post_init__(self) -> None:
        super().__post_init__()
        within(self, momentum=(0, 1))

    def update(
        self, w: Array, g: Array, state: dict[str, Array], lr: float, step: int, decayed: Sequence[slice]
    ) -> None:
        """Change w in place, numbers (n,) or a hidden layer's whole matrix (n, m); g and the state are of its shape."""
        if w.ndim == 1:
            super().update(w, g, state, lr, step, decayed)
            return
        shrink(w.reshape(-1), lr * self.weight_decay, decayed)
        m = state["m"]
        forget(m, self.momentum, step)
        m *= self.momentum
        m += g
        g += np.multiply(m, self.momentum, out=thread_scratch("part", m.shape, m.dtype))
        u = orthogonalised(g)
        u *= lr * 0.2 * math.sqrt(max(w.shape))
        w -= u


Optimizer = SGD | Adam
OPTIMIZERS: dict[str, type[SGD] | type[Adam]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW, "muon": Muon}


def orthogonalised(g: Array) -> Array:
    """Nearly U Vᵀ of g = U S Vᵀ (n, m), in scratch: singular values from about 0.7 to 1.2 for all but the least of g's.

    Each of five steps makes of a singular value s of X = g / |g|, which is at most 1, a s + b s³ + c s⁵: X becomes X P,
    P = a I + b A + c A² and A = XᵀX (Newton-Schulz; the coefficients are those of Jordan et al. 2024). What is made of
    A commutes, so A becomes P² A, and only the product of all P is multiplied by X. `g` is used up.
    """
    if g.shape[0] < g.shape[1]:
        return orthogonalised(g.T).T
    a, b, c = 3.4445, -4.7750, 2.0315
    side = g.shape[1]
    A, P, product, part = (thread_scratch(f"of {name}", (side, side), g.dtype) for name in ("A", "P", "all P", "part"))
    g /= max(math.sqrt(sum_of_squares(g)), LEAST_LENGTH)
    np.matmul(g.T, g, out=A)
    product.fill(0)
    np.fill_diagonal(product, 1)
    for _ in range(STEPS):
        np.matmul(A, A, out=P)
        P *= c
        P += np.multiply(A, b, out=part)
        P[np.diag_indices(side)] += a
        product[...] = np.matmul(product, P, out=part)
        np.matmul(np.matmul(A, P, out=part), P, out=A)
    return np.matmul(g, product, out=thread_scratch("orthogonalised", g.shape, g.dtype))


def penalise(g: Array, w: Array, by: float, decayed: Sequence[slice]) -> None:
    """g += by w in these slices: the gradient of by w² / 2, added to the loss's."""
    if by:
        for part in decayed:
            g[part] += np.multiply(w[part], by, out=thread_scratch("part", w[part].shape, w.dtype))


def shrink(w: Array, by: float, decayed: Sequence[slice]) -> None:
    """w -= by w in these slices."""
    if by:
        for part in decayed:
            w[part] *= 1 - by


def forget(mean: Array, decay: float, step: int) -> None:
    """Every `LOOK_STEPS` steps set to 0 what of a mean (n,) would be subnormal before the next look, in place.

    At each step the mean is multiplied by `decay`, from 0 to 1, before a gradient is added; steps count from 1. Of
    gradients that have become 0, as those of a unit that is never active again, it would go down to the smallest number
    there is and stay there, and with subnormal numbers (Goldberg 1991, ACM Computing Surveys 23, where they are called
    denormalized) some processors are many times slower.
    """
    if step % LOOK_STEPS == 0:
        smallest = float(np.finfo(mean.dtype).smallest_normal)
        size = np.abs(mean, out=thread_scratch("size", mean.shape, mean.dtype))
        limit = smallest / max(decay, LEAST_DECAY) ** LOOK_STEPS
        kept = np.greater_equal(size, limit, out=thread_scratch("kept", mean.shape, bool))
        np.multiply(mean, kept, out=mean)


def sum_of_squares(g: Array) -> float:
    """Σ g² in float64, of a block: blocks' sums added in order are the same whoever has made each of them."""
    return float(np.square(g, out=thread_scratch("squares", g.shape, np.float64), dtype=np.float64).sum())


def clipping(squares: Array, limit: float) -> float:
    """The factor that makes a gradient at most `limit` long, given the sums of squares of its blocks.

    Pascanu et al. 2013, arXiv 1211.5063. Of a gradient that is not finite it makes none that is.
    """
    norm = math.sqrt(squares.sum())
    return limit / norm if norm > limit else 1.0


@dataclass(frozen=True)
class Schedule:
    """The learning rate over a training, as a multiple of the optimizer's `lr`; t goes from 0 to 1 over the training.

    After a linear rise over the first `warmup` of the training, u goes from 0 to 1 over the rest of it and the
    multiple is: 1 for "constant"; `factor` to the number of whole `stages` gone by for "step"; `final` ** u
    for "exponential"; and from 1 to `final` along half a cosine for "cosine" (Loshchilov & Hutter 2017, arXiv
    1608.03983). "one-cycle" is that cosine with another one up from `start` in place of the line (Smith & Topin 2018,
    arXiv 1708.07120).
    """

    name: Literal["constant", "step", "exponential", "cosine", "one-cycle"] = "constant"
    warmup: float = 0.0
    start: float = 0.04
    final: float = 0.001
    stages: int = 3
    factor: float = 0.1

    def __post_init__(self) -> None:
        within(self, warmup=(0, 1), start=(0, 1), final=(0, 1), factor=(0, 1))
        if self.name == "exponential" and not self.final:
            raise ValueError("an exponential schedule needs a final greater than 0")
        if self.stages < 1:
            raise ValueError(f"stages must be at least 1, not {self.stages}")

    def multiple(self, step: int, steps: int) -> float:
        """The multiple for step `step` of `steps`, counted from 0."""
        warm = self.warmup * steps
        if step < warm:
            rise = (step + 1) / (warm + 1)
            if self.name == "one-cycle":
                return self.start + (1 - self.start) * (1 - math.cos(math.pi * rise)) / 2
            return rise
        u = (step - warm) / max(steps - warm, 1)
        if self.name == "step":
            return float(self.factor ** int(u * self.stages))
        if self.name == "exponential":
            return float(self.final**u)
        if self.name == "constant":
            return 1.0
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * u)) / 2


def within(config: object, **bounds: tuple[float, float]) -> None:
    """Raise ValueError unless each named field of `config` is at least its low and less than its high bound."""
    for name, (low, high) in bounds.items():
        value = getattr(config, name)
        if not low <= value < high:
            limit = "" if high == math.inf else f" and less than {high}"
            raise ValueError(f"{name} must be at least {low}{limit}, not {value}")
