"""Which sample comes when: a pure function of seed, epoch and position.

A shuffled list of 116 million windows would take a gigabyte and a minute, and resuming would have to skip through it.
Here sample = permute(position), computed only for the positions that are needed: a run resumes at any step at once, and
every rank computes its own positions of the same order.
"""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

PADDING = -1  # a row without a sample, which fills up the last batch of an epoch and has no labels
_ROUNDS = 6
_MIX_1, _MIX_2, _GOLDEN = (
    np.uint64(0xBF58476D1CE4E5B9),
    np.uint64(0x94D049BB133111EB),
    np.uint64(0x9E3779B97F4A7C15),
)


def _mix(x: np.ndarray) -> np.ndarray:
    """splitmix64's finaliser (Steele et al. 2014): every input bit reaches every output bit."""
    x = (x ^ (x >> np.uint64(30))) * _MIX_1
    x = (x ^ (x >> np.uint64(27))) * _MIX_2
    return x ^ (x >> np.uint64(31))


def permute(positions: np.ndarray, size: int, seed: int, epoch: int) -> np.ndarray:
    """The samples at `positions` of this epoch's order, a permutation of range(size).

    A Feistel network over the smallest even number of bits that hold `size` is a bijection whatever its round
    function; values that land at or past `size` are sent round again (cycle walking, Black and Rogaway 2002) until
    they don't, which keeps it a bijection of range(size). At most four trips are needed on average.

    Args:
        positions: int64, any shape, each in [0, size).
        size: the number of samples; below 2**62.

    Returns:
        int64, the shape of `positions`.
    """
    half = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    low = np.uint64((1 << int(half)) - 1)
    start = np.array([seed, epoch], dtype=np.int64).view(np.uint64)
    with np.errstate(over="ignore"):
        key = _mix(_mix(start[:1] + _GOLDEN) ^ start[1:])
        keys = _mix(key + _GOLDEN * np.arange(1, _ROUNDS + 1, dtype=np.uint64))
        values = np.asarray(positions, dtype=np.int64).ravel().astype(np.uint64)
        todo = np.arange(values.size)
        while todo.size:
            left, right = values[todo] >> half, values[todo] & low
            for round_key in keys:
                left, right = right, left ^ (_mix(right ^ round_key) & low)
            values[todo] = (left << half) | right
            todo = todo[values[todo] >= size]
    return values.astype(np.int64).reshape(np.shape(positions))


def shift_of(epoch: int, shifts: int) -> int:
    """The shift of an epoch's blocks, of 0 … shifts - 1: 0, then 1/2 of the way, 1/4, 3/4, 1/8, 5/8, 3/8, 7/8, …

    That is the epoch's binary digits read backwards (van der Corput 1935): each halves the widest gaps that are left.
    """
    return int(f"{epoch:b}"[::-1], 2) * shifts >> epoch.bit_length()


class EpochOrder(Sampler[np.ndarray]):
    """This rank's batches of an epoch, as arrays of sample numbers, for a DataLoader's `batch_sampler`.

    Position p of an epoch belongs to micro-batch p // (batch_size * world_size), and there to rank
    (p // batch_size) % world_size: so two ranks without accumulation see, step by step, just what one rank with two
    accumulation steps sees. The last micro-batch is filled up with PADDING, on every rank, so that none waits for
    another and nothing is dropped. The numbers are those of `size` blocks that are all shifted alike (`Blocks`).
    """

    def __init__(
        self, size: int, batch_size: int, seed: int, rank: int = 0, world_size: int = 1, shifts: int = 1
    ) -> None:
        self.size, self.batch_size, self.seed, self.shifts = size, batch_size, seed, shifts
        self.rank, self.world_size = rank, world_size
        self.epoch, self.first_batch = 0, 0

    def start_at(self, epoch: int, first_batch: int = 0) -> None:
        """Make the next iteration begin at this epoch's micro-batch `first_batch`."""
        self.epoch, self.first_batch = epoch, first_batch

    def __len__(self) -> int:
        """Micro-batches in a whole epoch."""
        return -(-self.size // (self.batch_size * self.world_size))

    def __iter__(self) -> Iterator[np.ndarray]:
        offsets = np.arange(self.batch_size, dtype=np.int64)
        shifted = shift_of(self.epoch, self.shifts) * self.size
        for batch in range(self.first_batch, len(self)):
            positions = (batch * self.world_size + self.rank) * self.batch_size + offsets
            samples = np.full(self.batch_size, PADDING, dtype=np.int64)
            real = positions < self.size
            samples[real] = permute(positions[real], self.size, self.seed, self.epoch) + shifted
            yield samples
