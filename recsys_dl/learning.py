"""Atomic fitting: if `fit` of a model or ranker fails or is interrupted, the object is unchanged."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np

Method = TypeVar("Method", bound=Callable[..., Any])


def whole_or_not(method: Method) -> Method:
    """Wrap a method so that it works on a copy and leaves `self` unchanged on any error, including Ctrl-C.

    The copy is shallow, so the method must replace fitted arrays instead of modifying them in place. Calls from other threads in the
    meantime use the previous state. Finally `_check_learned`, if defined, may still reject the result.
    """

    @functools.wraps(method)
    def learning(self: Any, *args: Any, **kwargs: Any) -> Any:
        if vars(self).get("_aside"):  # a nested call, such as a parent's fit
            return method(self, *args, **kwargs)
        aside = copy.copy(self)
        aside._aside = True
        result = method(aside, *args, **kwargs)
        del aside._aside
        if hasattr(aside, "_check_learned"):
            aside._check_learned()
        self.__dict__ = vars(aside)
        return self if result is aside else result

    return learning  # type: ignore[return-value]


def learns_whole(cls: type, methods: Iterable[str]) -> None:
    """Make these methods of a class, where it defines them itself, `whole_or_not`."""
    for name in methods:
        if name in vars(cls):
            setattr(cls, name, whole_or_not(vars(cls)[name]))


def fit_takes(recommender: Any, argument: str) -> bool:
    """Return whether the `fit` of a recommender, or of the model that it serves by an index, takes an argument."""
    return argument in inspect.signature(getattr(recommender, "model", recommender).fit).parameters


def not_finite(arrays: Mapping[str, Any]) -> list[str]:
    """Return the names of the arrays, dense or CSR, that hold NaN or infinity."""
    return [name for name, array in arrays.items() if not is_finite(array.data if hasattr(array, "indptr") else array)]


def is_finite(array: np.ndarray) -> bool:
    """Return whether no number is NaN or infinite, without a mask of the array's size."""
    if array.dtype.kind != "f" or not array.size:
        return True
    return bool(np.isfinite(array.min()) and np.isfinite(array.max()))
