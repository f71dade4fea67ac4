"""The `kaggle` package: how it is loaded, and where it looks for credentials."""

import contextlib
import functools
import importlib
import importlib.metadata
import importlib.util
import os
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@functools.cache
def import_kaggle() -> Any:
    """The package's module `kaggle_api_extended`, without what `import kaggle` does besides.

    Importing the package signs in, which prints on stdout, calls Kaggle, and fails where HOME can't be used.
    So a bare package stands in for it while its module is imported. KAGGLE_CONFIG_DIR is set to a folder that
    exists, else the module makes one in HOME. VERBOSE would have it log all requests.
    """
    name = "kaggle.api.kaggle_api_extended"
    if "kaggle" in sys.modules:
        return importlib.import_module(name)
    spec = importlib.util.find_spec("kaggle")
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError("kaggle", name="kaggle")
    bare = types.ModuleType("kaggle")
    bare.__path__ = spec.submodule_search_locations
    bare.__spec__ = spec
    bare.__dict__["__version__"] = version_of_kaggle()
    with _environment(KAGGLE_CONFIG_DIR=str(Path(__file__).parent), VERBOSE=None, VERBOSE_OUTPUT=None):
        sys.modules["kaggle"] = bare
        try:
            return importlib.import_module(name)
        finally:
            del sys.modules["kaggle"]  # whoever imports it after us gets the real one


@contextlib.contextmanager
def _environment(**changes: str | None) -> Iterator[None]:
    """Other values of environment variables, for a while."""
    before = {name: os.environ.get(name) for name in changes}
    try:
        _set_environment(changes)
        yield
    finally:
        _set_environment(before)


def _set_environment(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def version_of_kaggle() -> str:
    """The package's version. Raises PackageNotFoundError where it is not installed."""
    return importlib.metadata.version("kaggle")


def with_timeout(client: Any, timeout: tuple[float, float]) -> Any:
    """The package's client, changed so that no call waits for ever."""
    session = client.http_client().__enter__()._session
    session.send = functools.partial(session.send, timeout=timeout)
    return client


def config_folder() -> Path:
    """Where the package looks for kaggle.json; it settles that when it is imported, and makes the folder."""
    named = os.environ.get("KAGGLE_CONFIG_DIR")
    if named:
        return Path(named)
    old = Path("~/.kaggle").expanduser()
    if old.exists() or not sys.platform.startswith("linux"):
        return old
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path("~/.config").expanduser()) / "kaggle"


def oauth_file() -> Path:
    """Where `kaggle auth login` keeps its sign-in."""
    from kagglesdk import KaggleCredentials

    return Path(KaggleCredentials.DEFAULT_CREDENTIALS_FILE).expanduser()


def token_in_reach() -> tuple[str, str]:
    """The token that the package is going to use, and what to call the place it is in."""
    from kagglesdk import get_access_token_from_env

    try:
        token, source = get_access_token_from_env()
    except (OSError, ValueError):
        return "", ""  # signing in meets the same error, and explains it
    return token or "", "~/.kaggle/access_token" if source == "access_token" else source or ""
