"""Token ids to training blocks or sliding windows, a map-style Dataset without copies.

    tokens   t0 t1 t2 t3 t4 t5 t6 t7 t8        (9 tokens, block_size 4)
    blocks   [t0 t1 t2 t3]->[t1 t2 t3 t4]   [t4 t5 t6 t7]->[t5 t6 t7 t8]
    windows  the same at every start: t0.., t1.., t2.., t3.., t4..

Every token but the very first is a label once an epoch in `blocks` (but for a tail shorter than one block), and up to
block_size times in `windows`.

Blocks that are `shifted` begin as far into the text as `EpochOrder` says, in the first epoch at t0; a shift of 2 makes
these of the 9 tokens above: [t2 t3 t4 t5]->[t3 t4 t5 t6] and, since the last one ends with the text at the latest,
[t4 t5 t6 t7]->[t5 t6 t7 t8]. Such an epoch leaves out its first `shift` labels, and where the tail is shorter than that
it has as many as the tail lacks (here two, t5 and t6) twice: less than a block of either.
"""

import numpy as np
import torch
from torch.utils.data import Dataset

from clm.data.order import PADDING
from clm.data.steps import count_samples
from clm.data.store.token_store import TokenStore
from clm.errors import UserError

IGNORED = -100  # cross-entropy's usual mark for "no label here"


class Blocks(Dataset):
    """The samples of a token store. A batch is asked for and gathered at once (`__getitems__`).

    Sample number n is block n % len(self), shifted by n // len(self) tokens: so workers need not be told the epoch.
    """

    def __init__(self, store: TokenStore, block_size: int, sampling: str = "blocks", shifted: bool = True) -> None:
        self.store, self.block_size, self.sampling = store, block_size, sampling
        self.size = count_samples(store.tokens, block_size, sampling)
        self.shifts = block_size if shifted and sampling == "blocks" else 1  # shifts that an epoch may have: 0, 1, …
        if self.size == 0:
            raise UserError(
                f"the text has {store.tokens:,} tokens, too few for one block of {block_size:,} and the token after "
                "it: give more text or a smaller block_size"
            )

    @property
    def unused_tokens(self) -> int:
        """Tokens of the tail that no block reaches as a label."""
        return 0 if self.sampling == "windows" else (self.store.tokens - 1) % self.block_size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, sample: int) -> dict[str, torch.Tensor]:
        batch = self.__getitems__(np.array([sample]))
        return {name: values[0] for name, values in batch.items()}

    def __getitems__(self, samples: np.ndarray) -> dict[str, torch.Tensor]:
        """A batch: `input_ids` and `labels`, (len(samples), block_size) int64, labels[i] following input_ids[i].

        A sample of PADDING becomes a row of token 0 whose labels are all IGNORED.
        """
        samples = np.asarray(samples)
        real = samples != PADDING
        shifts, samples = np.divmod(np.where(real, samples, 0), self.size)
        starts = samples * (1 if self.sampling == "windows" else self.block_size) + shifts
        starts = np.minimum(starts, self.store.tokens - 1 - self.block_size)
        tokens = torch.from_numpy(self.store.gather(starts, self.block_size + 1).astype(np.int64))
        batch = {"input_ids": tokens[:, :-1].contiguous(), "labels": tokens[:, 1:].contiguous()}
        if not real.all():
            padding = torch.from_numpy(~real)
            batch["input_ids"][padding] = 0
            batch["labels"][padding] = IGNORED
        return batch
