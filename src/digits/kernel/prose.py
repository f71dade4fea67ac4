"""What a kernel says, and the cells in which it does the work; `notebook` puts them in their order."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from digits.recipe import Recipe
from digits.stats import Score

# What is said of a layer, and its equation.
LAYERS = {
    "dense": (
        "**Dense layers**: a matrix product forward, and the same matrices backward.",
        r"y = x W^\top + b, \qquad \frac{\partial L}{\partial W} = \frac{\partial L}{\partial y}^{\!\top} x, \qquad"
        r" \frac{\partial L}{\partial b} = \sum_n \frac{\partial L}{\partial y_n}, \qquad"
        r" \frac{\partial L}{\partial x} = \frac{\partial L}{\partial y}\, W",
    ),
    "conv": (
        "**Convolutions**: each pixel's surroundings, weighted. They are computed as matrix products over a few rows"
        " of pixels at a time, which stay in the processor's cache, and with fewer multiplications than the sum has, by"
        " the algorithm of Toom, Cook and Winograd.",
        r"y_{n,i,j,m} = b_m + \sum_{a,c,k} W_{a,c,k,m}\; x_{n,\,i+a-p,\,j+c-p,\,k}",
    ),
    "batchnorm": (
        "**Batch norm**: each channel with the mean and the variance that it has over the batch taken out. In"
        " prediction it is folded into the layer beside it.",
        r"y = \gamma\,\frac{x - \mu}{\sqrt{\sigma^2 + \varepsilon}} + \beta",
    ),
    "relu": ("**ReLU**: what is negative becomes 0.", r"y = \max(x, 0)"),
    "silu": ("**SiLU**: a smooth ReLU.", r"y = x\,\sigma(x) = \frac{x}{1 + e^{-x}}"),
    "maxpool": ("**Max pooling**: the largest of each square of pixels, which alone gets the gradient.", ""),
    "avgpool": ("**Average pooling**: the mean of each square of pixels.", ""),
    "globalavgpool": ("**Global average pooling**: the mean of each channel over the image.", ""),
    "dropout": (
        "**Dropout**: in training some numbers, drawn anew each time, become 0.",
        r"y = \frac{x \odot m}{1 - r}, \qquad m \sim \mathrm{Bernoulli}(1 - r)",
    ),
    "spatialdropout": ("**Spatial dropout**: in training some channels of an image, drawn anew, become 0.", ""),
    "residual": ("**Residual blocks**: layers whose input is added to their result.", r"y = f(x) + x"),
}
OPTIMIZERS = {
    "sgd": ("**Stochastic gradient descent**", r"v \leftarrow \mu v + g, \qquad w \leftarrow w - \eta v"),
    "adam": (
        "**Adam**",
        r"m \leftarrow \beta_1 m + (1 - \beta_1)\,g, \qquad v \leftarrow \beta_2 v + (1 - \beta_2)\,g^2, \qquad"
        r" w \leftarrow w - \eta\,\frac{\hat m}{\sqrt{\hat v} + \varepsilon}",
    ),
    "adamw": (
        "**AdamW**",
        r"m \leftarrow \beta_1 m + (1 - \beta_1)\,g, \qquad v \leftarrow \beta_2 v + (1 - \beta_2)\,g^2, \qquad"
        r" w \leftarrow w - \eta\left(\frac{\hat m}{\sqrt{\hat v} + \varepsilon} + \lambda w\right)",
    ),
    "muon": (
        "**Muon**, for the weights $W$ of hidden layers, and AdamW for all else: of the momentum's singular value"
        " decomposition $U S V^\\top$ all singular values become nearly 1",
        r"M \leftarrow \mu M + G, \qquad U S V^\top = G + \mu M, \qquad"
        r" W \leftarrow W - \eta\left(0.2 \sqrt{\max(n, m)}\; U V^\top + \lambda W\right)",
    ),
}
AVERAGES = {
    "ema": (
        "**Averaged weights**: not the last weights predict, but an average that follows them.",
        r"a \leftarrow d\,a + (1 - d)\,w",
    ),
    "swa": ("**Averaged weights**: the mean of the weights at the ends of the last epochs predicts.", ""),
}

CODE = """\
## The code

All of it, in the order in which one can read it: each cell writes a file. The layers, the loss, the network, the
optimizer, the augmentation and the training loop are open; what reads tables, cuts matrices to the size of the
processor's cache, draws plots and keeps checkpoints is folded.

To try something of your own, change a cell, then *Restart & Run All*: code or settings that were not trained yet are
trained, and what was interrupted goes on where it stopped."""

RECIPE = """\
### The recipe

What is trained, as differences from the defaults, which are in `recipe.py` above. This is the cell to play with."""

CHAPTERS = {
    "network": """\
### The network

Layers are equations, forward and backward. All their parameters are views into one flat vector, so that an optimizer is
a few operations on one array; a batch is cut into shards, each process of a core takes its share of them, and gradients
are added in a fixed order, so that the same seed gives the same weights to the bit on any number of cores.""",
    "data": """\
### The data

`train.csv` and `test.csv` are read and checked to the last byte, and a tenth of the labelled images is held out,
stratified: the *dev split*, on which scores are measured and nothing is ever trained.""",
    "training": """\
### Training

What is done to the images before they are learnt from, the training loop, and how probabilities are predicted.""",
    "run": """\
### A run

A run is a folder with all that its score depends on: the recipe, the seed, the split, the hashes of data and code, the
versions. It is what lets a training go on after an interruption, and what stops it in time.""",
}


@dataclass(frozen=True)
class Result:
    """What a run scored: `seconds` of training on so many `cores`."""

    id: str
    seed: int
    dev: Score
    public: float | None
    seconds: float
    cores: int


def title(recipe: Recipe, results: Sequence[Result]) -> str:
    """What this is, and what it scores."""
    what = f": {recipe.description}" if recipe.description else ""
    return f"""\
# MNIST in NumPy alone

No PyTorch, no TensorFlow, no scikit-learn: between `train.csv` and `submission.csv` there is nothing but NumPy, and
every layer, gradient, optimizer and augmentation is below, short enough to read. It is trained on the competition's
`train.csv` alone, since every other copy of MNIST holds the answers of the test set.

The recipe is **`{recipe.name}`**{what}. {_size(recipe)}

{_scores(results)}"""


def _size(recipe: Recipe) -> str:
    networks = [kind.build() for kind in recipe.kinds()]
    words = [
        f"{network.count:,} parameters, {network.multiply_adds / 1e6:.1f} million multiply-adds an image"
        for network in networks
    ]
    members = recipe.ensemble.members
    if len(words) > 1:
        return f"{members} networks, in turn of {' and of '.join(words)}."
    return f"{members} networks, each of {words[0]}." if members > 1 else f"{words[0]}."


def _scores(results: Sequence[Result]) -> str:
    if not results:
        return "It has not been measured yet: the cell that trains it says what it scores on the images held out."
    lines = ["| run | dev accuracy | public score | training |", "|---|---|---|---|"]
    for result in results:
        public = "-" if result.public is None else f"{result.public:.5f}"
        lines.append(
            f"| `{result.id}` | {result.dev} | {public} | {_duration(result.seconds)} on {result.cores} cores |"
        )
    spread = ""
    if len(results) > 1:
        accuracies = [100 * result.dev.accuracy for result in results]
        spread = (
            f" Over {len(results)} seeds it is **{statistics.mean(accuracies):.2f} %** on average, with a standard"
            f" deviation of {statistics.stdev(accuracies):.2f}."
        )
    images = results[0].dev.images
    return (
        "\n".join(lines) + f"\n\nDev accuracy is on {images:,} held-out images, ± its standard error"
        r" $\sqrt{p\,(1 - p) / n}$"
        f": a smaller difference between two runs says little.{spread}"
    )


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds > 90 else f"{seconds:.0f} s"


def equations(recipe: Recipe) -> str:
    """The equations of what the recipe uses, and of nothing else."""
    kinds = recipe.kinds()
    used = set().union(*(_names(kind.network) for kind in kinds))
    parts = [LAYERS[name] for name in LAYERS if name in used]
    smoothings = dict.fromkeys(kind.loss.label_smoothing for kind in kinds)
    targets = [rf"{1 - by:g}\,\mathrm{{onehot}} + {by / 10:g}" if by else r"\mathrm{onehot}" for by in smoothings]
    target = r", \qquad t = " + r" \text{ or } ".join(targets) if any(smoothings) else ""
    parts.append(
        (
            "**Softmax and cross-entropy**: logits become probabilities, and that of the label is to be large.",
            r"p_k = \frac{e^{z_k}}{\sum_l e^{z_l}}, \qquad L = -\sum_k t_k \log p_k, \qquad"
            rf" \frac{{\partial L}}{{\partial z}} = p - t{target}",
        )
    )
    for optimizer, lr in dict.fromkeys((kind.optimizer.name, kind.optimizer.lr) for kind in kinds):
        name, update = OPTIMIZERS[optimizer]
        parts.append((f"{name}, at a learning rate of {lr:g} at most:", update))
    parts += [AVERAGES[average] for average in dict.fromkeys(kind.average.name for kind in kinds) if average != "none"]
    members = recipe.ensemble.members
    if members > 1:
        folds = " and held out different parts of the images" if recipe.ensemble.folds else ""
        words = f"**Ensemble**: the mean of {members} networks, which began at different seeds{folds}."
        parts.append((words, rf"p = \frac{{1}}{{{members}}} \sum_i p^{{(i)}}"))
    paragraphs = [f"{words}\n\n$${equation}$$" if equation else words for words, equation in parts]
    return "## How it works\n\n" + "\n\n".join(paragraphs)


def _names(lines: Sequence[dict[str, object]]) -> set[str]:
    """The names of the layers in these lines of a network, and of their parts."""
    found: set[str] = set()
    for line in lines:
        found.add(str(line["layer"]))
        parts = line.get("layers")
        if isinstance(parts, list):
            found |= _names(parts)
    return found


def folders(names: Sequence[str], script: bool) -> str:
    """The cell that makes the folders that the files go to."""
    listed = ", ".join(f'"{name}"' for name in names)
    if script:
        return f"""\
import os
import sys
from pathlib import Path

sys.path.insert(0, os.getcwd())


def write(name: str, text: str) -> None:
    Path(name).write_text(text, encoding="utf-8")


for folder in ({listed}):
    Path(folder).mkdir(parents=True, exist_ok=True)"""
    return f"""\
from pathlib import Path

for folder in ({listed}):
    Path(folder).mkdir(parents=True, exist_ok=True)"""


CURVES = 'display(Image(run.path("learning-curve.png"), width=900))'
CURVES_OF_MEMBERS = """\
figure, axes = plt.subplots(figsize=(9, 3.6), layout="constrained")
for member in members(run):
    log = member.log()
    epochs, losses = [line["epoch"] for line in log], [line["loss"] for line in log]
    axes.plot(epochs, losses, marker="o", markersize=3, label=f"member {int(member.id) + 1}")
axes.set(title="Training loss of each", xlabel="epoch")
axes.xaxis.get_major_locator().set_params(integer=True)
axes.legend(ncols=2)
plt.show()"""

Work = Iterator[tuple[str, str, str]]  # a cell's name, the words before it, and its code


def work_of_script(settings: str) -> Work:
    """The cells of a script."""
    yield (
        "settings",
        "## Train",
        f"""\
from digits.runs import dev_score
from digits.sitting import Sitting

here = {settings}
print(here, flush=True)""",
    )
    yield (
        "train",
        "",
        """\
for news in here.train():
    if news.line:
        print(news.line, flush=True)
print("dev accuracy", dev_score(here.run))""",
    )
    yield "submission", "", 'print("wrote", here.write_submission())'


def work_of_notebook(recipe: Recipe, settings: str, full: bool) -> Work:
    """The cells of a notebook, each of which runs alone once that with the settings has run."""
    yield (
        "settings",
        """\
## Settings

After a restart run this cell and then whichever you like: the files above are on disk, and so is what was trained.
`hours` counts from here. When they are over, the run is finished with the weights as they are.""",
        f"""\
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import HTML, Image, display

from digits import outline, plots
from digits.augment import augment
from digits.nn import read_arrays
from digits.runs import dev_score, members
from digits.sitting import Sitting

here = {settings}
plt.rcParams.update({{**plots.STYLE, "figure.dpi": 110}})
print(here)""",
    )
    yield (
        "look",
        "## The images",
        """\
images, labels = here.data.images, here.data.labels
rows = [np.hstack(images[labels == digit][:20]) for digit in range(10)]

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), width_ratios=[3, 1], layout="constrained")
left.imshow(np.vstack(rows), cmap="gray_r")
left.set_title(f"{len(images):,} labelled images, {len(here.data.test_images):,} to predict")
left.axis("off")
right.barh(range(10), np.bincount(labels, minlength=10), color=plots.TRAIN)
right.set_yticks(range(10))
right.invert_yaxis()
right.grid(axis="y", visible=False)
right.set_title("How many of each")
plt.show()""",
    )
    if not recipe.augment.none:
        yield (
            "augmentation",
            """\
## What the network is shown

Each time an image is learnt from it is changed anew, so that no epoch is like another. The first column is the image as
it is.""",
            """\
images, labels = here.data.images, here.data.labels
first = [np.flatnonzero(labels == digit)[3] for digit in range(10)]
columns = [np.vstack(images[first])]
for seed in range(15):
    changed, _ = augment(images[first], labels[first], np.random.default_rng(seed), here.recipe.augment)
    columns.append(np.vstack(changed))

plt.figure(figsize=(9, 5.6), layout="constrained")
plt.imshow(np.hstack(columns), cmap="gray_r")
plt.axvline(27.5, color=plots.DEV, linewidth=2)
plt.axis("off")
plt.show()""",
        )
    yield (
        "layers",
        "## The network, layer by layer",
        """\
table = pd.DataFrame(outline.rows(here.recipe.build().layers)).set_index("number").rename_axis(None)
table["settings"] = [" ".join(f"{key}={value}" for key, value in row.items()) for row in table["settings"]]
table["output"] = [" x ".join(map(str, shape)) for shape in table["output"]]
for column in ("parameters", "multiply_adds"):
    table[column] = [f"{count:,}" if count else "" for count in table[column]]
table""",
    )
    yield (
        "train",
        "## Training",
        """\
bar = display(HTML("starting"), display_id=True)
for news in here.train():
    bar.update(HTML(f"<progress value='{news.share:.4f}' style='width: 24em'></progress> {news}"))
    if news.line:
        print(news.line)""",
    )
    judged = "no dev image was trained on"
    if recipe.ensemble.folds:
        judged = "each image is judged by the networks that were not trained on it"
    score = "" if full else f"The error bar is the standard error, and {judged}."
    yield (
        "score",
        f"## What it scores\n\n{score}".rstrip(),
        """\
run = here.run
print("dev accuracy:", dev_score(run) or "none, as all images were trained on")
print(f"trained for {run.record['seconds']['train']:.0f} s on {run.record['workers']} cores")
"""
        + (CURVES_OF_MEMBERS if recipe.ensemble.members > 1 else CURVES),
    )
    if not full:
        yield (
            "confusion",
            "### Which digits are taken for which",
            'display(Image(here.run.path("confusion.png"), width=560))',
        )
        yield (
            "mistakes",
            "### The mistakes, the surest first",
            'display(Image(here.run.path("mistakes.png"), width=900))',
        )
    yield (
        "doubts",
        "### Test images that it is least sure of",
        """\
p = read_arrays(here.run.path("test.npz"))["probabilities"]
figure, grid = plt.subplots(3, 10, figsize=(11, 4.2), layout="constrained")
for axes, at in zip(grid.flat, np.argsort(p.max(axis=1))):
    second, first = np.argsort(p[at])[-2:]
    axes.imshow(here.data.test_images[at], cmap="gray_r")
    axes.set_title(f"{first} {p[at, first]:.0%}, {second} {p[at, second]:.0%}", fontsize=8, loc="center")
    axes.axis("off")
plt.show()""",
    )
    yield (
        "submission",
        "## The submission\n\nPress *Submit* on the notebook's page, and the score is there in a minute.",
        """\
path = here.write_submission()
table = pd.read_csv(path)
print(f"{path}: {len(table):,} rows")
display(table.head(10).T)""",
    )
    yield (
        "end",
        """\
## Yours now

Fork it and change the recipe: wider layers, more epochs, `[augment] elastic = 0.6`, `[average] name = "ema"`,
`[ensemble] members = 4`, which trains four networks side by side, one on each core. Two numbers to keep in mind: the
standard error of the dev score above, and that the public score has one of its own.

MNIST is by Yann LeCun and Corinna Cortes, under CC BY-SA 3.0; the code is under the MIT licence.""",
        "",
    )
