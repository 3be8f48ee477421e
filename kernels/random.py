"""Random numbers that are functions of (seed, epoch, position): no state, so results do not depend on threads, blocks or order.

SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators", figure 14) addressed by position. The
functions are plain Python over unsigned integers, to be compiled for each device: `njit(random_bits)`,
`cuda.jit(device=True)(random_bits)`.
"""

from __future__ import annotations

import numpy as np

STEP = np.uint64(0x9E3779B97F4A7C15)
FIRST = np.uint64(0xBF58476D1CE4E5B9)
SECOND = np.uint64(0x94D049BB133111EB)
HALF = np.uint64(32)
LOW = np.uint64(0xFFFFFFFF)


def random_bits(key, position):
    """Return 64 random bits: a uint64 for each uint64 position of the stream that `stream_key` chose."""
    bits = key + (position + np.uint64(1)) * STEP
    bits = (bits ^ (bits >> np.uint64(30))) * FIRST
    bits = (bits ^ (bits >> np.uint64(27))) * SECOND
    return bits ^ (bits >> np.uint64(31))


def random_below(bits, bound):
    """Return floor(bits * bound / 2^64): a uint64 below `bound`, uniform to within bound / 2^64.

    The upper half of a 128-bit product (Lemire 2019, "Fast random integer generation in an interval"), computed from four 64-bit products.
    """
    high, low = bits >> HALF, bits & LOW
    bound_high, bound_low = bound >> HALF, bound & LOW
    middle = high * bound_low + ((low * bound_low) >> HALF)
    other = low * bound_high + (middle & LOW)
    return high * bound_high + (middle >> HALF) + (other >> HALF)


def stream_key(seed: int, epoch: int = 0) -> np.uint64:
    """Return the key of one stream of random numbers, a uint64; any integers are valid."""
    with np.errstate(over="ignore"):
        return random_bits(random_bits(np.uint64(0), np.uint64(seed % 2**64)), np.uint64(epoch % 2**64))


def stream_keys(seed: int, epochs_B: np.ndarray) -> np.ndarray:
    """Return the keys of several streams, uint64 [B]: `stream_key(seed, epoch)` for each integer."""
    with np.errstate(over="ignore"):
        first = random_bits(np.uint64(0), np.uint64(seed % 2**64))
    return random_bits(np.full(len(epochs_B), first), epochs_B.astype(np.uint64))
