"""What the README, the pages in docs/ and the Makefile say is so."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer

from digits import recipe
from digits.augment import Augmentation
from digits.cli import app
from digits.nn import AVERAGES, LAYERS, OPTIMIZERS
from digits.sweep import grid

ROOT = Path(__file__).parent.parent
PAGES = {path: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
README = PAGES[ROOT / "README.md"]
RECIPES = PAGES[ROOT / "docs" / "recipes.md"]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def leaves(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The commands that do something, by their names: "train", "recipe list"."""
    if not hasattr(command, "commands"):
        yield name, command
    for below, inner in getattr(command, "commands", {}).items():
        yield from leaves(inner, f"{name} {below}".strip())


COMMANDS = dict(leaves(typer.main.get_command(app)))


def command_in(words: list[str]) -> str:
    """The command that these words are of; the first word, if they are of none."""
    return next((name for name in (" ".join(words[1:3]), words[1]) if name in COMMANDS), words[1])


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.MULTILINE))


def commands(program: str, *texts: str) -> Iterator[list[str]]:
    """The commands of these texts that begin with this program, as words."""
    for text in texts:
        for line in re.findall(rf"^{program} .*$", text, re.MULTILINE):
            yield shlex.split(line, comments=True)
        for line in re.findall(rf"`({program} [^`]*)`", text):
            yield shlex.split(line)


def snippets(text: str) -> list[str]:
    """The pieces of TOML of a text."""
    return re.findall(r"```toml\n(.*?)```", text, re.DOTALL)


def anchor(heading: str) -> str:
    """What a link to a heading ends in."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def test_make_alone_lists_every_target() -> None:
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert targets() == set(re.findall(r"^  ([a-z-]+)  +\S", listed, re.MULTILINE)) - {"RECIPE"}
    phony = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert phony
    assert targets() | {"help"} == set(phony[1].split())


def test_every_target_is_in_the_readme_and_every_target_there_exists() -> None:
    named = {word for words in commands("make", README) for word in words[1:] if "=" not in word}
    assert targets() == named - {"alone"}


def test_every_target_in_the_pages_exists() -> None:
    named = {word for words in commands("make", *PAGES.values()) for word in words[1:] if "=" not in word}
    assert named - {"alone"} <= targets()


def test_every_command_is_in_the_readme_and_every_command_there_exists() -> None:
    named = {command_in(words) for words in commands("digits", README) if not words[1].startswith("-")}
    assert named - {"COMMAND"} == set(COMMANDS)


def test_every_command_and_option_in_the_pages_exists() -> None:
    for words in commands("digits", *PAGES.values()):
        assert command_in(words) in COMMANDS or words[1] in ("COMMAND", "--help")
        command = COMMANDS.get(command_in(words))
        if command:
            options = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
            assert {word for word in words[2:] if word.startswith("-")} <= options | {"--help"}


def test_every_variable_in_the_pages_is_one_of_the_makefiles() -> None:
    known = set(re.findall(r"^([A-Z_]+) +\?=", MAKEFILE, re.MULTILINE))
    used = {word.split("=")[0] for words in commands("make", *PAGES.values()) for word in words[1:] if "=" in word}
    assert used <= known


def test_the_readme_names_every_recipe_and_its_parameters() -> None:
    for name in recipe.names():
        one = recipe.load(name)
        assert re.search(rf"^\| `{name}` .* \| {one.parameters:,} \|", README, re.MULTILINE)


def test_the_pages_recipes_and_variants_are_such(tmp_path: Path) -> None:
    (longer_text,) = snippets(README)
    wide_text, mixed_text, folds_text = snippets(RECIPES)
    (variants_text,) = snippets(PAGES[ROOT / "docs" / "sweeps.md"])
    (tmp_path / "longer.toml").write_text(longer_text, encoding="utf-8")
    assert recipe.load(str(tmp_path / "longer.toml")).train.epochs == recipe.load("cnn").train.epochs * 3 / 2
    (tmp_path / "ideas.toml").write_text(variants_text, encoding="utf-8")
    assert len(grid.configurations(recipe.load("cnn"), [{}], grid.variants(tmp_path / "ideas.toml"))) == 3
    (tmp_path / "wide.toml").write_text(wide_text, encoding="utf-8")
    wide = recipe.load(str(tmp_path / "wide.toml"))
    assert wide.network != recipe.load("mlp").network
    assert wide.augment == recipe.load("mlp").augment
    (tmp_path / "folds.toml").write_text(folds_text, encoding="utf-8")
    folds = recipe.load(str(tmp_path / "folds.toml"))
    assert folds.member(0).train == recipe.load("cnn").train
    assert (folds.ensemble.members, folds.ensemble.folds) == (6, 3)
    (tmp_path / "mixed.toml").write_text(mixed_text, encoding="utf-8")
    assert [kind.name for kind in recipe.load(str(tmp_path / "mixed.toml")).kinds()] == ["mixed", "mlp"]


def test_the_page_of_recipes_names_every_key_and_default() -> None:
    recipes = [recipe.load("mlp").resolved()]
    for table, choices in (("optimizer", OPTIMIZERS), ("average", AVERAGES)):
        recipes += [recipe.from_table({**recipes[0], table: {"name": name}}, name).resolved() for name in choices]
    (section,) = re.findall(r"\| table \| keys.*?\n\n", RECIPES, re.DOTALL)
    lines = dict(re.findall(r"^\| `\[(\w+)\]` \|(.*)$", section, re.MULTILINE))
    for tables in recipes:
        for table in lines.keys() - {"network"}:
            for key, value in tables[table].items():
                assert f"`{key} = " in lines[table], f"{table}.{key}"
                if key == "name":
                    assert f'"{value}"' in lines[table]


def test_the_pages_figures_are_there_and_small() -> None:
    names = {path.parent / name for path, text in PAGES.items() for name in re.findall(r"!\[[^]]+\]\(([^)]+)\)", text)}
    assert {path.name for path in names} == {path.name for path in (ROOT / "docs").glob("*.png")}
    for path in names:
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size < 200_000


def test_every_link_between_the_pages_leads_somewhere() -> None:
    for path, text in PAGES.items():
        for target in re.findall(r"\]\(([^)]+)\)", text):
            name, _, part = target.partition("#")
            if "://" in target:
                continue
            assert (path.parent / name).exists(), f"{path.name}: {target}"
            if part:
                page = PAGES[(path.parent / name).resolve()] if name else text
                assert part in map(anchor, re.findall(r"^#+ (.*)$", page, re.MULTILINE)), f"{path.name}: {target}"


def test_every_page_is_linked_from_the_readme() -> None:
    assert {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")} <= {
        target.partition("#")[0] for target in re.findall(r"\]\(([^)]+)\)", README)
    }


def test_the_figure_shows_every_augmentation() -> None:
    script = (ROOT / "scripts" / "figures.py").read_text(encoding="utf-8")
    (section,) = re.findall(r"## Augmentation\n.*?\n## ", RECIPES, re.DOTALL)
    for key in fields(Augmentation):
        assert f"`{key.name}`" in section
        if key.default == 0:  # those that switch something on
            assert f'("{key.name} = ' in script


def test_the_page_of_recipes_names_every_layer_and_its_keys() -> None:
    (line,) = re.findall(r"^\| `network` \|(.*)$", RECIPES, re.MULTILINE)
    for name, layer in LAYERS.items():
        assert f"`{name}`" in line
        for key in fields(layer):
            assert f"`{key.name} = " in line or f"`{key.name}`" in line, f"{name}: {key.name}"


@pytest.mark.parametrize("newer", [r"\.ONESHELL", r"!=", r"::=", r"&:", r"\$\(file ", r"\.SHELLFLAGS", r"\bundefine\b"])
def test_the_makefile_uses_nothing_newer_than_make_3_81(newer: str) -> None:
    assert not re.search(rf"^[^\t#]*{newer}", MAKEFILE, re.MULTILINE)


def test_no_text_names_a_path_of_somebodys_machine_or_a_registry() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    machine, registry = "/(home/[a-z]+|roo" + "t)/", "pypi" + r"\.org"
    bad = re.compile(f"{machine}|{registry}")
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.suffix in {".py", ".md", ".toml", ".txt", ".json", ""} and path != Path(__file__) and path.is_file():
            assert not bad.search(path.read_text(encoding="utf-8")), name
