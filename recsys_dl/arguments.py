"""Validating arguments against their annotations, at construction.

A constructor says `embedding_size: Count = 64` and is `@checked`, or its class inherits from one whose `__init_subclass__` does
that. Types and ranges are checked by pydantic; NumPy numbers are accepted, booleans are not numbers, and numbers must be finite.
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from annotated_types import Ge, Gt, Le, Lt, MinLen

from recsys_dl.names import near

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Count = Annotated[int, Ge(1)]
CountOrZero = Annotated[int, Ge(0)]
Seed = Annotated[int, Ge(0), Lt(1 << 63)]
ShortSeed = Annotated[int, Ge(0), Lt(1 << 31)]  # for libraries with 32-bit seeds
Links = Annotated[int, Ge(2)]  # per vector in a graph
Counts = Annotated[Sequence[Count], MinLen(1)]  # such as widths of layers
Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
Share = Annotated[float, Ge(0), Le(1)]
ShareBelowOne = Annotated[float, Ge(0), Lt(1)]
OpenShare = Annotated[float, Gt(0), Lt(1)]
ShareAboveZero = Annotated[float, Gt(0), Le(1)]

_SIGNS = {Ge: ("at least", "ge"), Gt: ("above", "gt"), Le: ("at most", "le"), Lt: ("below", "lt")}
_LONGEST = 60  # characters of a value that a message quotes

Call = TypeVar("Call", bound=Callable[..., Any])
Made = TypeVar("Made")


def checked(call: Call) -> Call:
    """Return a function or class whose arguments are validated against their annotations.

    Arguments of types other than numbers, booleans, text, and lists and mappings of these are passed through.

    Raises:
        ValueError: from the returned function: an invalid argument; the message names it and says what it must be.
        TypeError: likewise: an unknown or missing argument; the message lists the available ones.
    """
    if isinstance(call, type):
        call.__init__ = checked(call.__init__)  # type: ignore[misc]
        return call
    signature = inspect.signature(call)
    hints = functools.cache(lambda: hints_of(call))

    @functools.wraps(call)
    def checking(*args: Any, **kwargs: Any) -> Any:
        bound = bind(call, signature, args, kwargs)
        for name, hint in hints().items():
            if name in bound.arguments:
                bound.arguments[name] = check_argument(name, bound.arguments[name], hint)
        return call(*bound.args, **bound.kwargs)

    return checking  # type: ignore[return-value]


def named(cls: type[Made]) -> type[Made]:
    """Return a class whose constructor reports missing and unknown arguments; it validates values itself."""
    make = cls.__init__
    signature = inspect.signature(make)

    @functools.wraps(make)
    def making(*args: Any, **kwargs: Any) -> None:
        bind(make, signature, args, kwargs)
        make(*args, **kwargs)

    cls.__init__ = making  # type: ignore[method-assign]
    return cls


def takes_histories(fold_in: Call) -> Call:
    """Return a `fold_in`, or a class with that of its own, that, given stated tastes which it does not take, says what does.

    Raises:
        TypeError: from the returned method: tastes.
    """
    if isinstance(fold_in, type):
        if "fold_in" in vars(fold_in):
            setattr(fold_in, "fold_in", takes_histories(vars(fold_in)["fold_in"]))  # noqa: B010  type checkers know no such attribute
        return fold_in
    if "tastes" in inspect.signature(fold_in).parameters:
        return fold_in

    @functools.wraps(fold_in)
    def folding(self: Any, *args: Any, **kwargs: Any) -> Any:
        if "tastes" in kwargs:
            raise TypeError(
                f"{type(self).__name__}.fold_in takes histories, not tastes, which mean something to a model of content alone: "
                "Content().fit(train).fold_in(tastes=[…])"
            )
        return fold_in(self, *args, **kwargs)

    return folding  # type: ignore[return-value]


def bind(
    call: Callable[..., Any], signature: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> inspect.BoundArguments:
    """Bind arguments to names.

    Raises:
        TypeError: they do not match the signature; the message names the callable and its arguments.
    """
    try:
        return signature.bind(*args, **kwargs)
    except TypeError as error:
        made = call.__name__ == "__init__"
        name = type(args[0]).__name__ if made else call.__name__
        takes = parameters_of(type(args[0])) if made else dict(signature.parameters)
        ones = [one for one in takes.values() if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
        bare, plain = [one.name for one in ones if one.kind is one.POSITIONAL_OR_KEYWORD], list(args)[made:]
        unknown = [key for key in kwargs if key not in takes]
        missing = [one.name for one in ones[len(plain) :] if one.default is one.empty and one.name not in kwargs]
        if unknown:
            what = f"{name} has no argument {unknown[0]!r}{near(unknown[0], takes)}"
        elif len(plain) > len(bare):
            by_name = next((f"{one.name}={_short(plain[-1])}" for one in ones if one.kind is one.KEYWORD_ONLY), "")
            only = f"takes only {', '.join(bare)} without a name" if bare else "takes its arguments by name"
            what = f"{name} {only}, such as {name}({', '.join([*bare, by_name])}), got {len(plain)} without"
        elif missing:
            what = f"{name} needs {', '.join(missing)}, such as {name}({', '.join([*bare, *(f'{one}=…' for one in missing if one not in bare)])})"
        else:
            what = f"{name}: {error}"
        there = [one.name if one.default is one.empty else f"{one.name}={_short(one.default)}" for one in ones]
        raise TypeError(f"{what}. It takes: {', '.join(there) or 'nothing'}") from None


def parameters_of(cls: type) -> dict[str, inspect.Parameter]:
    """Return the arguments of a constructor, including its parent's if it passes `**` on."""
    found: dict[str, inspect.Parameter] = {}
    for kind in cls.__mro__:
        if "__init__" in vars(kind):
            parameters = list(inspect.signature(vars(kind)["__init__"]).parameters.values())[1:]
            found |= {
                one.name: one
                for one in parameters
                if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL) and one.name not in found
            }
            if not any(one.kind is one.VAR_KEYWORD for one in parameters):
                break
    return found


def show_arguments(cls: type) -> None:
    """Set a class's signature (for `help` and notebooks) to all its arguments, including its parent's passed on by `**`."""
    parameters = sorted(parameters_of(cls).values(), key=lambda one: one.kind)
    cls.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]


def _short(value: Any) -> str:
    return repr(value) if isinstance(value, str | int | float | tuple) or value is None else "…"


def hints_of(call: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations of a callable's validated arguments."""
    found = {}
    for name, one in inspect.signature(call).parameters.items():
        if one.kind in (one.VAR_KEYWORD, one.VAR_POSITIONAL) or one.annotation is one.empty:
            continue
        hint = one.annotation
        if isinstance(hint, str):
            try:
                hint = eval(hint, getattr(inspect.unwrap(call), "__globals__", {}))  # noqa: S307  annotations of our own source
            except NameError:  # a TYPE_CHECKING import: not a plain type
                continue
        if _is_plain(hint):
            found[name] = hint
    return found


def check_argument(name: str, value: Any, hint: Any) -> Any:
    """Return a value as plain Python if it matches the annotation.

    Raises:
        ValueError: it is not.
    """
    from pydantic import ValidationError

    value = _plain(value)
    try:
        _adapter(hint).validate_python(value)
        return value
    except ValidationError as error:
        words = _literals(hint)
        meant = near(value, words) if isinstance(value, str) else ""
        if isinstance(value, str) and value in words:  # a list of such words is expected
            meant = f": write [{value!r}]"
        wrong = wrong_entry(value, hint)
        shown = repr(value if wrong is None else wrong[1])
        shown = shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}…"
        place = "" if wrong is None else f" for {wrong[0]!r}"
        raise ValueError(f"{name} must be {_what(hint)}, got {shown}{place}{meant}") from error


def wrong_entry(value: Any, hint: Any) -> tuple[Any, Any] | None:
    """Return the name and value of the first entry of a mapping that does not match the hint of a mapping's values; None if there is none."""
    from pydantic import ValidationError

    inner = next((one for one in (hint, *typing.get_args(hint)) if _is_mapping(one)), None)
    if inner is None or not isinstance(value, Mapping):
        return None
    for name, one in value.items():
        try:
            _adapter(typing.get_args(inner)[1]).validate_python(one)
        except ValidationError:
            return name, one
    return None


def _is_mapping(hint: Any) -> bool:
    origin = typing.get_origin(hint)
    return isinstance(origin, type) and issubclass(origin, Mapping) and len(typing.get_args(hint)) == 2


@functools.cache
def _adapter(hint: Any) -> TypeAdapter[Any]:
    from pydantic import ConfigDict, TypeAdapter

    return TypeAdapter(hint, config=ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True))


def _plain(value: Any) -> Any:
    """Convert NumPy numbers, and other libraries' lists and mappings, to Python's own."""
    if isinstance(value, str | bytes | int | float) or value is None:
        return value
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        return value.item()
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, Sequence) or hasattr(value, "tolist"):
        return [_plain(one) for one in value]
    return value


def _is_plain(hint: Any) -> bool:
    """Return whether a hint consists of numbers, text, literals, and lists and mappings of these."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _is_plain(inner[0])
    if origin is Literal:
        return True
    if origin in (typing.Union, types.UnionType):
        return all(map(_is_plain, inner))
    if isinstance(origin, type) and issubclass(origin, Sequence | Mapping):
        return all(map(_is_plain, inner))
    return hint in (int, float, bool, str, type(None))


def _literals(hint: Any) -> list[str]:
    inner = typing.get_args(hint)
    if typing.get_origin(hint) is Literal:
        return [word for word in inner if isinstance(word, str)]
    return [word for one in inner for word in _literals(one)]


def _what(hint: Any) -> str:
    """Describe a hint in words."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        if isinstance(inner[1], MinLen):
            return f"{_what(inner[0])}, with at least {inner[1].min_length}"
        ranges = [f"{_SIGNS[type(one)][0]} {_number(getattr(one, _SIGNS[type(one)][1]))}" for one in inner[1:]]
        joint = " of " if inner[0] is int and ranges[0].startswith("at") else " "
        return f"{_what(inner[0])}{joint}{' and '.join(ranges)}"
    if origin is Literal:
        return f"one of {', '.join(map(str, inner))}" if len(inner) > 1 else repr(inner[0])
    if origin in (typing.Union, types.UnionType):
        return ", or ".join(dict.fromkeys(map(_what, inner)))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"a mapping of names, each to {_what(inner[1])}" if len(inner) == 2 else "a mapping of names"
    if origin is not None:
        return f"a list, each {_what(inner[0])}"
    return {int: "a whole number", float: "a finite number", bool: "true or false", str: "text"}.get(
        hint, "null (None)"
    )


def _number(bound: float) -> str:
    return f"2^{int(bound).bit_length() - 1}" if bound >= 1 << 31 else f"{bound:g}"
