"""Many small images as one picture, of which a page shows parts."""

import base64
import io
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

COLUMNS = 50
SIDE = 28
SHADES = 16  # of grey: half the bytes of 256, and no eye tells them apart in so small an image


class Pictures:
    """The images, by their rows in train.csv, that a page shows: each once, as many as there is room for.

    Those that are asked for first have a place first.
    """

    def __init__(self, images: NDArray[np.uint8], room: int) -> None:
        self._images = images
        self._room = room
        self._places: dict[int, int] = {}

    def add(self, rows: Iterable[int]) -> None:
        """Have these images shown, as far as there is room."""
        for row in rows:
            if row not in self._places and len(self._places) < self._room and 0 <= row < len(self._images):
                self._places[row] = len(self._places)

    @property
    def rows(self) -> list[int]:
        """The rows of the images, in the order of their places: along lines of `COLUMNS`, from the top."""
        return list(self._places)

    def png(self) -> bytes:
        """The picture, dark ink on white."""
        from PIL import Image

        height = max(-(-len(self._places) // COLUMNS), 1)
        sheet = np.zeros((height * COLUMNS, SIDE, SIDE), np.uint8)
        sheet[: len(self._places)] = self._images[self.rows]
        picture = sheet.reshape(height, COLUMNS, SIDE, SIDE).swapaxes(1, 2).reshape(height * SIDE, COLUMNS * SIDE)
        shades = (SHADES - 1) - np.rint(picture / 255 * (SHADES - 1)).astype(np.uint8)
        image = Image.fromarray(shades, "L").convert("P")
        image.putpalette([round(255 * shade / (SHADES - 1)) for shade in range(SHADES) for _ in range(3)])
        file = io.BytesIO()
        image.save(file, "PNG", bits=4, optimize=True)
        return file.getvalue()

    def uri(self) -> str:
        """The picture as a data: address."""
        return "data:image/png;base64," + base64.b64encode(self.png()).decode()
