"""What several tests need: sample data, the competition's data where it is at hand, and a way to run the command."""

import os
import signal
from pathlib import Path

import pytest
from jobs import without_plots

from digits.data import Data, load
from digits.sample import write_sample

pytest_plugins = ("kaggle_stub", "calls", "sessions")

ROOT = Path(__file__).parent.parent
REAL_ZIP = Path(os.environ.get("DIGITS_REAL_ZIP", ROOT.parent / "shared" / "digit-recognizer" / "digit-recognizer.zip"))

# Where the tests run in a shell's background, Ctrl-C is ignored, and would be by all that they start and stop with it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def sample_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of sample data: 600 labelled and 80 test images. Tests that change it make a copy first."""
    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder, 600, 80)
    return folder


@pytest.fixture(scope="session")
def sample_data(sample_folder: Path) -> Data:
    """The data in `sample_folder`."""
    return load(sample_folder)


@pytest.fixture(scope="session")
def real_zip() -> Path:
    """The competition's digit-recognizer.zip; a test that asks for it is skipped where it is not at hand."""
    if not REAL_ZIP.exists():
        pytest.skip(
            f"the competition's data is not at hand: set DIGITS_REAL_ZIP to digit-recognizer.zip (not {REAL_ZIP})"
        )
    return REAL_ZIP


@pytest.fixture(scope="session")
def real_folder(real_zip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the competition's data unpacked."""
    from digits.data import acquire

    folder = tmp_path_factory.mktemp("real")
    acquire(folder, real_zip, say=lambda _: None, download=lambda _: pytest.fail("the zip was passed over"))
    return folder


@pytest.fixture
def unplotted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots are written as files of a moment, as drawing them is what takes the time."""
    without_plots(monkeypatch)
