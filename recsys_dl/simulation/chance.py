"""Random numbers that are functions of a seed, a purpose and a request: a world answers a request in the same way in any batch."""

from __future__ import annotations

import numpy as np

from recsys_dl.kernels.random import random_bits, stream_key

# purposes, far from the streams of a policy of the same seed, whose draws must have nothing to do with the world's
REWARDS, EXAMINED, DELAYS, LOST, REQUESTS = range(0x574F524C44 << 8, (0x574F524C44 << 8) + 5)


def uniform(seed: int, purpose: int, requests_B: np.ndarray, others_BX: np.ndarray | None = None) -> np.ndarray:
    """Return float64 in (0, 1): one a request, or one for each number of `others_BX` in it.

    Args:
        seed: of the world.
        purpose: chooses the stream.
        requests_B: integers.
        others_BX: integers of at least -1, such as arms.
    """
    keys_B = random_bits(np.full(len(requests_B), stream_key(seed, purpose)), requests_B.astype(np.uint64))
    bits = keys_B if others_BX is None else random_bits(keys_B[:, None], (others_BX + 1).astype(np.uint64))
    return ((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
