"""Feature normalization for networks; trees do not need it. F features, N documents, T quantiles."""

from __future__ import annotations

from typing import Literal

import numpy as np

Normalization = Literal["none", "standard", "log1p", "quantile"]
NUM_QUANTILES = 256  # number of quantiles stored per feature


def learn_normalization(features_NF: np.ndarray, kind: Normalization) -> dict[str, np.ndarray]:
    """Return the state for `normalized`, learned from the training documents.

    "standard" subtracts the mean and divides by the standard deviation; "log1p" first applies sign(x) log(1 + |x|), for counts and
    amounts with long tails; "quantile" first replaces a value by the share of documents below it. A constant feature
    becomes 0.
    """
    if kind == "none":
        return {}
    learned = {}
    if kind == "quantile":
        shares_T = np.linspace(0, 1, NUM_QUANTILES)
        learned["quantiles_FT"] = np.quantile(features_NF, shares_T, axis=0).T.astype(np.float32)
    values_NF = _shaped(features_NF, learned, kind)
    learned["mean_F"] = values_NF.mean(axis=0, dtype=np.float64).astype(np.float32)
    spread_F = values_NF.std(axis=0, dtype=np.float64)
    learned["scale_F"] = np.where(spread_F > 1e-6 * np.abs(learned["mean_F"]), spread_F, np.inf).astype(np.float32)
    return learned


def normalized(features_NF: np.ndarray, learned: dict[str, np.ndarray], kind: Normalization) -> np.ndarray:
    """Return float32 [..., F]: the normalized features."""
    if kind == "none":
        return features_NF
    return (_shaped(features_NF, learned, kind) - learned["mean_F"]) / learned["scale_F"]


def _shaped(features_NF: np.ndarray, learned: dict[str, np.ndarray], kind: Normalization) -> np.ndarray:
    if kind == "log1p":
        return np.copysign(np.log1p(np.abs(features_NF)), features_NF)
    if kind == "standard":
        return features_NF
    shares_NF = np.empty_like(features_NF)
    for feature, quantiles_T in enumerate(learned["quantiles_FT"]):
        below = np.searchsorted(quantiles_T, features_NF[..., feature], side="left")
        upto = np.searchsorted(quantiles_T, features_NF[..., feature], side="right")
        shares_NF[..., feature] = (below + upto) / (2 * NUM_QUANTILES)  # ties get their mean rank
    return shares_NF
