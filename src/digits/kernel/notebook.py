"""The package as a readable notebook, or as a script, that needs nothing but what is on Kaggle's image.

It is a story: what this is, the scores so far, the equations, then the modules in reading order as files to be written,
then cells that look at the data, train and predict. Which modules it takes is told by their imports, beginning with
those of the cells, so that none is forgotten and none is there for nothing. The same commit gives the same bytes.

Of Kaggle's image it takes NumPy, pandas, matplotlib, and threadpoolctl, which scikit-learn needs and so is there.
"""

import ast
import functools
import json
import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from digits import recipe as recipes
from digits import runs
from digits.errors import DigitsError
from digits.files import make_folder, write_json, write_text
from digits.kaggle import COMPETITION
from digits.kernel import HOURS, prose
from digits.recipe import Recipe
from digits.runs import Run
from digits.sitting import ensemble_of
from digits.stats import Score
from digits.version import PACKAGE, code_version, tracked

METADATA = "kernel-metadata.json"
OWNER = "INSERT_YOUR_KAGGLE_USERNAME"  # of a kernel that is built with nobody signed in
LONGEST_TITLE = 50  # characters

# What is in which chapter of prose.CHAPTERS; the network's is all of digits.nn, and the rest is in the last one.
CHAPTERS = {
    "data": (
        "digits.errors",
        "digits.files",
        "digits.competition",
        "digits.table",
        "digits.data",
        "digits.split",
        "digits.submission",
    ),
    "training": ("digits.deform", "digits.augment", "digits.predict", "digits.recipe", "digits.stats", "digits.train"),
}
# Where the walk along the imports begins, so that what is read first comes first, after what it needs itself.
FIRST = ("digits", *(f"digits.nn.{name}" for name in ("layers", "losses", "network", "optim")), "digits.nn")
# What a reader comes for; the others are folded.
OPEN = (
    *(f"digits.nn.{name}" for name in ("layers", "losses", "network", "optim", "averaging")),
    *(f"digits.{name}" for name in ("augment", "predict", "train")),
)


@dataclass(frozen=True)
class Plan:
    """What a kernel is to do: train a recipe with a seed, of an ensemble of so many `members` those in `only`."""

    recipe: str
    seed: int = 0
    script: bool = False
    full: bool = False
    hours: float = HOURS
    members: int | None = None
    only: tuple[int, ...] | None = None

    @property
    def name(self) -> str:
        """The recipe's name."""
        return Path(self.recipe).stem

    @property
    def title(self) -> str:
        """The kernel's title, which becomes its address. Raises DigitsError where Kaggle would find it too long."""
        words = ["Digit Recognizer NumPy", self.name] if self.only is None else ["Digits NumPy", self.name]
        words += [f"s{self.seed}"] if self.seed or self.only is not None else []
        words += ["full"] if self.full else []
        if self.only is not None:
            words.append(f"{'-'.join(str(number + 1) for number in self.only)} of {self.members}")
        elif self.script:
            words.append("script")
        title = re.sub(r"[^A-Za-z0-9]+", " ", " ".join(words))
        if len(title) > LONGEST_TITLE:
            raise DigitsError(
                f"the kernel's title {title!r} is longer than Kaggle's {LONGEST_TITLE}: shorten the recipe's name"
            )
        return title

    @property
    def slug(self) -> str:
        """The last part of the kernel's address, as Kaggle makes it from the title."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")

    @property
    def code_file(self) -> str:
        """The name of the kernel's file."""
        return f"digit-recognizer-numpy.{'py' if self.script else 'ipynb'}"


@dataclass(frozen=True)
class Cell:
    """A cell: Markdown, code, or a `file` with its text. A folded one shows its first lines where that can be."""

    id: str
    kind: Literal["markdown", "code", "file"]
    text: str
    file: str = ""
    folded: bool = False


def write(plan: Plan, folder: Path, submissions: Path, owner: str | None = None, public: bool = False) -> Path:
    """Write the kernel's file and its kernel-metadata.json to a folder; the path of the file.

    Raises DigitsError where the recipe is none, or something can't be written.
    """
    source = build(plan, submissions)
    make_folder(folder)
    path = folder / plan.code_file
    write_text(path, source)
    write_json(folder / METADATA, metadata(plan, owner, public))
    return path


def metadata(plan: Plan, owner: str | None = None, public: bool = False) -> dict[str, Any]:
    """What Kaggle wants to know of a kernel: no GPU, no internet, the competition's data, private unless `public`."""
    return {
        "id": f"{owner or OWNER}/{plan.slug}",
        "title": plan.title,
        "code_file": plan.code_file,
        "language": "python",
        "kernel_type": "script" if plan.script else "notebook",
        "is_private": not public,
        "enable_gpu": False,
        "enable_tpu": False,
        "enable_internet": False,
        "keywords": [],
        "dataset_sources": [],
        "kernel_sources": [],
        "competition_sources": [COMPETITION],
        "model_sources": [],
    }


def build(plan: Plan, submissions: Path) -> str:
    """The text of the notebook, or of the script. Raises DigitsError where the recipe is none, or has a teacher."""
    cells = list(story(plan, submissions))
    return as_script(cells) if plan.script else as_notebook(cells)


def story(plan: Plan, submissions: Path) -> Iterator[Cell]:
    """The cells, in the order in which one reads them."""
    chosen = ensemble_of(recipes.load(plan.recipe), plan.members)
    for kind in chosen.kinds():
        if kind.teacher.run:
            raise DigitsError(
                f"{plan.recipe} learns from the run {kind.teacher.run}, which a kernel has not at hand: train it here, "
                f"with `digits train {plan.recipe}`"
            )
    settings = _settings(plan)
    work = list(prose.work_of_script(settings) if plan.script else prose.work_of_notebook(chosen, settings, plan.full))
    files = dict(sources([code for _, _, code in work]))
    toml = dict(recipe_files(plan.recipe))  # once each, though several may extend one
    yield Cell("title", "markdown", prose.title(chosen, results(chosen, submissions)))
    yield Cell("equations", "markdown", prose.equations(chosen))
    yield Cell("code", "markdown", prose.CODE)
    folders = {str(PurePosixPath(name).parent) for name in (*files, *toml)} - {"."}
    yield Cell("folders", "code", prose.folders(sorted(folders), plan.script))
    for chapter, words in prose.CHAPTERS.items():
        yield Cell(f"chapter-{chapter}", "markdown", words)
        for name, content in files.items():
            if chapter_of(name) == chapter:
                yield Cell(id_of(name), "file", content, name, folded=module_of(name) not in OPEN)
        if chapter == "training":
            yield Cell("chapter-recipe", "markdown", prose.RECIPE)
            for name, content in toml.items():
                yield Cell(id_of(name), "file", content, name)
    for name, words, code in work:
        if words:
            yield Cell(f"about-{name}", "markdown", words)
        if code:
            yield Cell(name, "code", code)


def _settings(plan: Plan) -> str:
    """The call that sits down with the plan's settings, as it is written in a cell."""
    which = Path(plan.recipe).name  # which is the recipe's own name where it is a packaged one
    values: dict[str, Any] = {"seed": plan.seed, "hours": plan.hours}
    values |= {"full": True} if plan.full else {}
    values |= {"members": plan.members} if plan.members is not None else {}
    values |= {"only": list(plan.only)} if plan.only is not None else {}
    code = code_version()
    values |= {"commit": code["commit"] + ("-dirty" if code["dirty"] else "")} if code["commit"] else {}
    lines = [json.dumps(which), *(f"{key}={_python(value)}" for key, value in values.items())]
    return "Sitting(\n" + "".join(f"    {line},\n" for line in lines) + ")"


def _python(value: Any) -> str:
    return json.dumps(value) if isinstance(value, str) else repr(value)


def as_notebook(cells: list[Cell]) -> str:
    """The cells as nbformat 4.5 has them, with no outputs yet."""
    listed: list[dict[str, Any]] = []
    for cell in cells:
        shown: dict[str, Any] = {"_kg_hide-input": True, "jupyter": {"source_hidden": True}} if cell.folded else {}
        source = f"%%writefile {cell.file}\n{cell.text}" if cell.kind == "file" else cell.text
        entry: dict[str, Any] = {"cell_type": "markdown" if cell.kind == "markdown" else "code", "id": cell.id}
        if entry["cell_type"] == "code":
            entry |= {"execution_count": None, "outputs": []}
        listed.append({**entry, "metadata": shown, "source": source.rstrip("\n").splitlines(keepends=True)})
    notebook = {
        "cells": listed,
        "metadata": {
            "kaggle": {
                "isGpuEnabled": False,
                "isInternetEnabled": False,
                "language": "python",
                "sourceType": "notebook",
            },
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def as_script(cells: list[Cell]) -> str:
    """The cells as a script in the percent format, which editors show as cells too."""
    parts = []
    for cell in cells:
        if cell.kind == "markdown":
            lines = "\n".join(f"# {line}".rstrip() for line in cell.text.strip().splitlines())
            parts.append(f"# %% [markdown]\n{lines}\n")
        elif cell.kind == "file":
            parts.append(f"# %%\nwrite({cell.file!r}, {_literal(cell.text)})\n")
        else:
            parts.append(f"# %%\n{cell.text.strip()}\n")
    return "\n".join(parts)


def _literal(content: str) -> str:
    """A text as a string literal that one can read, raw where it can be."""
    literal = f"r'''{content}'''"
    return literal if _means(literal) == content else repr(content)


def _means(literal: str) -> str | None:
    try:
        return str(ast.literal_eval(literal))
    except SyntaxError:
        return None


def sources(code: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The modules that these pieces of code need, as file names and texts, each after those that it imports itself."""
    begun: set[str] = set()
    order: list[str] = []

    def follow(module: str) -> None:
        if module not in begun:
            begun.add(module)
            for name in imports(path_of(module).read_text(encoding="utf-8")):
                follow(name)
            order.append(module)

    for module in (*FIRST, *(name for piece in code for name in imports(piece))):
        follow(module)
    for module in order:
        path = path_of(module)
        yield path.relative_to(PACKAGE.parent).as_posix(), path.read_text(encoding="utf-8")


@functools.cache
def imports(code: str) -> tuple[str, ...]:
    """The modules of the package that code imports, in functions and for type checkers too, in the code's order."""
    found: list[str] = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if is_module(alias.name)]
        elif isinstance(node, ast.ImportFrom) and node.module and is_module(node.module):
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [name if is_module(name) else node.module for name in inner]
    return tuple(dict.fromkeys(found))


def is_module(name: str) -> bool:
    """The package has a module of this name."""
    return name.partition(".")[0] == "digits" and path_of(name).exists()


def path_of(module: str) -> Path:
    """Where the source of a module of the package is, or would be."""
    base = PACKAGE.parent.joinpath(*module.split("."))
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


def module_of(file: str) -> str:
    """The module whose file it is."""
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def chapter_of(file: str) -> str:
    """The chapter that a module's file is in: the last, where none has it by name."""
    module = module_of(file)
    if module == "digits" or module.startswith("digits.nn"):
        return "network"
    return next((chapter for chapter, modules in CHAPTERS.items() if module in modules), "run")


def id_of(file: str) -> str:
    """A cell's id from the name of its file: letters, digits and dashes, as nbformat wants it."""
    return re.sub(r"[^a-zA-Z0-9]+", "-", file).strip("-")


def recipe_files(which: str) -> Iterator[tuple[str, str]]:
    """The recipe's TOML and those that it names, as file names in the kernel and texts, each after those that it names.

    Raises DigitsError where one is outside the folder of the recipe, as there is no such place in a kernel.
    """
    if which.endswith(".toml"):
        path = Path(which)
        name = path.name
    else:
        path = PACKAGE / "recipes" / f"{which}.toml"
        name = path.relative_to(PACKAGE.parent).as_posix()
    content = path.read_text(encoding="utf-8-sig")
    table = tomllib.loads(content)
    base = [table["extends"]] if "extends" in table else []
    for named in (*base, *table.get("ensemble", {}).get("others", [])):
        if not named.endswith(".toml"):
            yield from recipe_files(named)
        elif Path(named).name == named:
            yield from recipe_files(str(path.parent / named))
        else:
            raise DigitsError(f"{which} names {named}, which is in another folder: put it beside {which}")
    yield name, content


def results(chosen: Recipe, submissions: Path) -> list[prose.Result]:
    """What the recipe's runs have scored, oldest first: those on the real data that are committed, in a checkout."""
    kept = tracked(submissions)
    return [
        _result(run, score)
        for run in reversed(runs.every(submissions))
        if (kept is None or run.path("run.json").resolve() in kept)
        and run.record["recipe"]["name"] == chosen.name
        and run.record["data"]["kind"] == "official"
        and run.record["status"] == "finished"
        and not run.record.get("cut_short")
        and (score := runs.dev_score(run))
    ]


def _result(run: Run, score: Score) -> prose.Result:
    record = run.record
    public = [entry["public_score"] for entry in record["submissions"] if entry.get("public_score") is not None]
    best, cores = max(public, default=None), record.get("workers", record["machine"]["cores"])
    return prose.Result(run.id, record["seed"], score, best, record["seconds"]["train"], cores)
