"""Optimizers and learning-rate schedules.

An optimizer's `update` is elementwise over flat vectors, so that it may be called on slices of them, from any thread
and in any order, with the same result.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from digits.nn.scratch import Array


@dataclass(frozen=True)
class SGD:
    """v = momentum v + g,  w -= lr v      (Nesterov: w -= lr (g + momentum v))

    g is the gradient plus, where `decays` says so, `weight_decay` w. With momentum 0 it is plain gradient descent.
    Nesterov's form is that of Sutskever et al. 2013 (ICML 28), as PyTorch writes it.
    """

    name: ClassVar[str] = "sgd"
    lr: float = 0.1
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        within(self, lr=(0, math.inf), momentum=(0, 1), weight_decay=(0, math.inf))
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum greater than 0")

    @property
    def states(self) -> tuple[str, ...]:
        """The names of the vectors, each like the parameters, that the optimizer keeps from step to step."""
        return ("velocity",) if self.momentum else ()

    def update(self, w: Array, g: Array, state: dict[str, Array], lr: float, step: int, decays: Array) -> None:
        """Change w in place, given the gradient g, which is used up; `step` counts from 1, `decays` is 1 or 0."""
        if self.weight_decay:
            g += self.weight_decay * decays * w
        if self.momentum:
            v = state["velocity"]
            v *= self.momentum
            v += g
            if self.nesterov:
                g += self.momentum * v
            else:
                g[...] = v
        g *= lr
        w -= g


@dataclass(frozen=True)
class AdamW:
    """m = β1 m + (1 - β1) g,  v = β2 v + (1 - β2) g²,  w -= lr (m̂ / (√v̂ + ε) + weight_decay w)

    m̂ = m / (1 - β1ᵗ) and v̂ = v / (1 - β2ᵗ) at step t. Kingma & Ba 2015 (arXiv 1412.6980) with the decoupled weight
    decay of Loshchilov & Hutter 2019 (arXiv 1711.05101); with weight_decay 0 it is Adam.
    """

    name: ClassVar[str] = "adamw"
    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        within(self, lr=(0, math.inf), beta1=(0, 1), beta2=(0, 1), weight_decay=(0, math.inf))
        if not 0 < self.epsilon < math.inf:
            raise ValueError(f"epsilon must be greater than 0, not {self.epsilon}")

    @property
    def states(self) -> tuple[str, ...]:
        """The names of the vectors, each like the parameters, that the optimizer keeps from step to step."""
        return ("m", "v")

    def update(self, w: Array, g: Array, state: dict[str, Array], lr: float, step: int, decays: Array) -> None:
        """Change w in place, given the gradient g, which is used up; `step` counts from 1, `decays` is 1 or 0."""
        m, v = state["m"], state["v"]
        m *= self.beta1
        m += (1 - self.beta1) * g
        g *= g
        g *= 1 - self.beta2
        v *= self.beta2
        v += g
        if self.weight_decay:
            w -= (lr * self.weight_decay) * decays * w
        # lr m̂ / (√v̂ + ε), with the two bias corrections moved out of the vectors
        root = math.sqrt(1 - self.beta2**step)
        np.sqrt(v, out=g)
        g += self.epsilon * root
        w -= (lr * root / (1 - self.beta1**step)) * m / g


Optimizer = SGD | AdamW
OPTIMIZERS: dict[str, type[SGD] | type[AdamW]] = {"sgd": SGD, "adamw": AdamW}


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
