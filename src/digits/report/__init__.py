"""The runs as one HTML file that needs nothing but a browser: the leaderboard, each run, any two of them compared.

page.html, style.css and page.js are the page; this puts them into one file with what they show, as JSON. What is
reckoned is reckoned here, the page only draws it.
"""

import base64
import html
import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digits import __version__, outline, runs
from digits.data import Data
from digits.diagnosis import calibration, confusion, doubted, margins, mistakes
from digits.errors import DigitsError
from digits.files import make_folder, write_text
from digits.nn import Array, CheckpointError, read_arrays
from digits.recipe import CLASSES, from_table
from digits.runs import Run, dev_score
from digits.stats import Score
from digits.submit import SCORED_IMAGES, gap

LARGEST = 5_000_000  # bytes of the file
GALLERY = 40  # mistakes of a run that are shown
DOUBTS = 24  # labels that are shown as in doubt, of a run
POINTS = 60  # of a learning curve
PICTURES = 2_400  # images, of all runs together
LISTED = 60_000  # mistakes, of all runs together, that comparisons can name
SPRITE_COLUMNS = 50
TABLES = ("train", "optimizer", "schedule", "average", "loss", "augment", "predict", "ensemble")
