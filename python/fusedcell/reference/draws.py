"""Which units dropout and zoneout take: draws of a counter-based generator, of integers alone.

Source: Salmon, Moraes, Dror and Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3", SC '11, which has Philox4x32
and its constants; 10 rounds.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .arrays import Array

Words: TypeAlias = NDArray[np.uint64]

_WORD = 0xFFFFFFFF


def philox4x32(counter: Words, key: tuple[int, int]) -> Words:
    """Returns the four words (..., 4) of counters of four words (..., 4), all of 32 bits in 64, under a key of two."""
    c = [np.asarray(counter, np.uint64)[..., word] for word in range(4)]
    k = [np.uint64(word) for word in key]
    for _ in range(10):
        product_0, product_1 = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        high_0, low_0 = product_0 >> np.uint64(32), product_0 & np.uint64(_WORD)
        high_1, low_1 = product_1 >> np.uint64(32), product_1 & np.uint64(_WORD)
        c = [high_1 ^ c[1] ^ k[0], low_1, high_0 ^ c[3] ^ k[1], low_0]
        k = [np.uint64((int(k[0]) + 0x9E3779B9) & _WORD), np.uint64((int(k[1]) + 0xBB67AE85) & _WORD)]
    return np.stack(c, axis=-1)


def taken(seed: int, stream: int, rate: float, steps: int, batch: int, size: int) -> Array:
    """Returns 1.0 where a feature is taken and 0.0 where it is dropped or held, at `rate`, (steps, batch, size).

    The draw of feature j at step t of batch row b is word j mod 4 of the counter (j // 4, b, t, stream) under the key
    of the seed's two halves, the lower first. It takes the feature if it is round(2^32 rate) or more; of rate 1 none.
    """
    counter = np.zeros((steps, batch, -(-size // 4), 4), np.uint64)
    counter[..., 0] = np.arange(counter.shape[2], dtype=np.uint64)
    counter[..., 1] = np.arange(batch, dtype=np.uint64)[:, None]
    counter[..., 2] = np.arange(steps, dtype=np.uint64)[:, None, None]
    counter[..., 3] = stream
    words = philox4x32(counter, (seed & _WORD, seed >> 32)).reshape(steps, batch, -1)[..., :size]
    least = min(int(rate * 2.0**32 + 0.5), _WORD)
    return np.asarray((words >= least) & (rate < 1), np.float64)
