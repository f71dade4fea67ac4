"""The gradient of a whole batch, a block of the parameters at a time.

The gradient of a dense layer's weights, dW = dyᵀ x, has many more numbers than its factors if the batch is small. To
make it of each shard and add these up costs as much as the products themselves, for it falls out of the caches. So the
shards leave their factors, and dW is made of them for the whole batch, some rows at a time, which the optimizer uses
before they leave the cache. All other gradients are made by the shards and added in their order.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from digits.nn.layers import Dense
from digits.nn.network import Network, leaves
from digits.nn.products import multiply_tiles, tile
from digits.nn.scratch import LINE, Array, shared_zeros, thread_scratch

BLOCK_PARAMETERS = 1 << 12, 1 << 16  # that are updated at a time, at least and at most: 256 kB of each float32 vector
BLOCKS = 4  # or a multiple of them, where it can be: as many for each of the workers
BLOCK_ROWS = 16  # of a factored gradient, or a multiple of these


@dataclass(frozen=True)
class Block:
    """Where in the flat vectors the parameters are that are updated at a time.

    Where their gradient is factored they are rows of a weight matrix, that of the dense layer with this number.
    """

    place: slice
    rows: slice | None = None
    layer: int = 0


class Gradient:
    """The gradient of batches of at most so many images, whose shards replicas of a network see.

    Before a shard's backward pass `expect` has to be called; when all shards are done `of` gives the gradient of each
    of the `blocks`. Each of the places that are to stay `whole`, the weights of a layer, is one block. What the shards
    leave is shared with the processes that are forked from this one.
    """

    def __init__(self, network: Network, replicas: Sequence[Network], batch: int, whole: Sequence[slice] = ()) -> None:
        self._replicas = replicas
        self._dense = [dense_layers(replica) for replica in replicas]
        self._factors: dict[int, tuple[Array, Array]] = {}  # dyᵀ (M, batch) and x by tiles (tiles, batch, columns)
        given = {place.start: [Block(place)] for place in whole}  # the blocks that begin with a layer's weights
        _, most = BLOCK_PARAMETERS
        for number, layer in enumerate(dense_layers(network)):
            M, D = layer.W.shape
            if batch * (M + D) < M * D:
                place = network.place(layer.W)
                at_once = M if place.start in given else max(most // D // BLOCK_ROWS, 1) * BLOCK_ROWS
                columns = tile(min(at_once, M), batch, D)[1] or D
                shapes = (M, batch), (D // columns, batch, columns)
                left, right = (shared_zeros(shape, layer.W.dtype) for shape in shapes)
                self._factors[number] = left, right
                given[place.start] = [
                    Block(slice(place.start + rows.start * D, place.start + rows.stop * D), rows, number)
                    for rows in parts(0, M, at_once)
                ]
        self.blocks: list[Block] = []
        start = 0
        for first in sorted(given):
            self.blocks += even_blocks(start, first) + given[first]
            start = given[first][-1].place.stop
        self.blocks += even_blocks(start, network.count)

    def expect(self, shard: int, images: slice) -> None:
        """The next backward pass of this shard's replica is that of these images of the batch."""
        for number, (left, right) in self._factors.items():
            self._dense[shard][number].factors = left[:, images], right[:, images].swapaxes(0, 1)

    def of(self, block: Block, shards: int, images: int, *, keep: bool = False) -> Array:
        """The gradient of a block, a vector like it, of a batch of so many images in so many shards.

        Call it once a batch; to `keep` a factored one too until it is asked for as `kept`.
        """
        total = self.kept(block)
        if block.rows is None:
            for replica in self._replicas[1:shards]:
                total += replica.grads[block.place]
            return total
        if not keep:
            total = thread_scratch("gradient", total.shape, total.dtype)
        left, right = self._factors[block.layer]
        rows = left[block.rows, :images]
        multiply_tiles(rows, right[:, :images], total.reshape(len(rows), -1))
        return total

    def kept(self, block: Block) -> Array:
        """Where a block's gradient is, once it is there to stay: the first replica's place for its own."""
        return self._replicas[0].grads[block.place]


def dense_layers(network: Network) -> list[Dense]:
    """The dense layers, in their order."""
    return [layer for _, layer in leaves(network.layers) if isinstance(layer, Dense)]


def even_blocks(start: int, stop: int) -> list[Block]:
    """Blocks of about equal size, which all begin where a line of the cache does if the first one does."""
    least, most = BLOCK_PARAMETERS
    count = BLOCKS * math.ceil((stop - start) / (BLOCKS * most))
    size = max(math.ceil((stop - start) / max(count, 1)), least)
    return [Block(part) for part in parts(start, stop, math.ceil(size / LINE) * LINE)]


def parts(start: int, stop: int, size: int) -> list[slice]:
    """From one number to another in parts of a size, the last of which may be smaller."""
    return [slice(at, min(at + size, stop)) for at in range(start, stop, size)]
