"""Validating settings against the annotations of constructors, with pydantic.

Valid values are unchanged; equivalent spellings (100.0 for 100) are converted; text is kept
as typed; a single value where a list is expected becomes a list of one.
"""

from __future__ import annotations

import inspect
import re
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from omegaconf import DictConfig, ListConfig, OmegaConf

from recsys_dl.arguments import wrong_entry
from recsys_dl.lazy import importing
from recsys_dl.names import near

from .options import at
from .settings import SETTINGS
from .several import several_of

UNREADABLE = object()


def check_types(config: DictConfig, verb: str, typed: Mapping[str, str], held: Any) -> None:
    """Validate every setting; convert equivalent spellings in place.

    Args:
        config: composed.
        verb: its verb.
        typed: dotted key -> the value as typed on the command line.
        held: the plain config before overrides: examples of valid values.

    Raises:
        ValueError: a value of the wrong type, an unknown constructor argument, or a `_target_` that cannot be imported.
    """
    for key, annotation in SETTINGS[verb].items():
        if OmegaConf.select(config, key, default=UNREADABLE, throw_on_missing=False) is not UNREADABLE:
            _check_value(config, key, annotation, typed, held)
    planned = config.device if verb == "plan" else None
    if planned is not None:
        config.device = "auto"  # `plan` names machines, which no constructor takes
    _check_parts(config)
    for name in config:
        if name == "model" and OmegaConf.select(config, "pipeline") is not None:
            continue  # not read in this case
        _check_nodes(config, str(name), typed, held)
    if planned is not None:
        config.device = planned


def _check_parts(config: DictConfig) -> None:
    """Check that a model made of others is left some."""
    model = config.get("model")
    if (
        config.get("pipeline") is None
        and isinstance(model, DictConfig)
        and model.get("_target_")
        and not model.get("parts")
    ):
        target = located(model._target_, "model")
        if "parts" in parameters_of(target)[0] and not model.get("_partial_"):
            raise ValueError(
                f"model.parts: {target.__name__} needs at least one part, and none is left; leave one in, or add one: +model@model.parts.als=als"
            )


def is_ids(verb: str, key: str) -> bool:
    """Return whether a verb's setting takes ids."""
    annotation = SETTINGS[verb].get(key)
    return get_origin(annotation) is Annotated and "ids" in get_args(annotation)


def parameters_of(target: Any) -> tuple[dict[str, Any], bool]:
    """Return the annotation of each argument of a class or function, and whether it accepts others too.

    Arguments passed on to the parent with ** are the parent's.
    """
    makers = [target]
    if isinstance(target, type):
        makers = [vars(one)["__init__"] for one in target.__mro__[:-1] if "__init__" in vars(one)]
    found: dict[str, Any] = {}
    for maker in makers:
        home = vars(sys.modules[inspect.unwrap(maker).__module__])
        parameters = list(inspect.signature(maker).parameters.values())
        for one in parameters[isinstance(target, type) :]:
            if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL):
                found.setdefault(one.name, _evaluated(one.annotation, home))
        if not any(one.kind is one.VAR_KEYWORD for one in parameters):
            return found, False
    return found, True


def located(target: Any, key: str) -> Any:
    """Import a `_target_`.

    Raises:
        ValueError: it cannot be imported.
    """
    from hydra.utils import get_object

    try:
        with importing():
            return get_object(str(target))
    except Exception as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise ValueError(f"{key}._target_ is {target}, which cannot be imported: {reason}") from error


def takes_trainer(target: Any) -> bool:
    """Return whether the target's `fit` takes a trainer."""
    return "trainer" in inspect.signature(target.fit).parameters if hasattr(target, "fit") else False


def _check_nodes(config: DictConfig, key: str, typed: Mapping[str, str], held: Any) -> None:
    """Check every mapping with a `_target_` at or below a key."""
    node = OmegaConf.select(config, key, throw_on_missing=False)
    if isinstance(node, ListConfig):
        for number in range(len(node)):
            if isinstance(node._get_node(number), DictConfig):
                _check_nodes(config, f"{key}[{number}]", typed, held)
        return
    if not isinstance(node, DictConfig):
        return
    parameters: dict[str, Any] = {}
    if node.get("_target_") is not None:
        target = located(node._target_, key)
        parameters, open_ended = parameters_of(target)
        for name in map(str, node):
            if not name.startswith("_") and name not in parameters and not open_ended:
                shown = getattr(target, "__name__", target)
                raise ValueError(f"{key}.{name}: {shown} takes no {name!r}{near(name, parameters)}")
    plain: Any = OmegaConf.to_container(node, resolve=False)
    for name, value in plain.items():
        if str(name).startswith("_") or value == "???":
            continue
        if _builds(value):
            _check_nodes(config, f"{key}.{name}", typed, held)
        elif name in parameters:
            _check_value(config, f"{key}.{name}", parameters[str(name)], typed, held)


def _builds(value: Any) -> bool:
    if isinstance(value, dict):
        return "_target_" in value or any(map(_builds, value.values()))
    return isinstance(value, list) and any(map(_builds, value))


def _check_value(config: DictConfig, key: str, annotation: Any, typed: Mapping[str, str], held: Any) -> None:
    if OmegaConf.is_missing(config, key):
        return
    value = OmegaConf.select(config, key)
    value = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
    fitted = _fitted(value, annotation, typed.get(key))
    if fitted is UNREADABLE:
        example = at(held, key)
        plain = isinstance(example, int | float | list) or (
            isinstance(example, str) and not example.startswith(("${", "?"))
        )
        such_as = (
            f", such as {_shown(example)}" if plain and _fitted(example, annotation, None) is not UNREADABLE else ""
        )
        choices = [str(one) for one in _choices(annotation)]
        several = several_of(typed.get(key, ""), lambda one: _fitted(one, annotation, None) is not UNREADABLE)
        wrong = wrong_entry(value, annotation)
        got = repr(typed.get(key, _shown(value))[:80]) if wrong is None else f"{_shown(wrong[1])!r:.80} for {wrong[0]}"
        raise ValueError(
            f"{key} must be {described(annotation)}{such_as if not choices else ''}, got {'nothing' if got == repr('') else got}{near(str(value), choices)}{several}"
        )
    if fitted is not value:
        OmegaConf.update(config, key, fitted)


def _fitted(value: Any, annotation: Any, typed: str | None) -> Any:
    """Return the value converted to the annotation, or UNREADABLE."""
    if annotation is Any or _valid(value, annotation, strict=True) is not UNREADABLE:
        return value if value != "" or annotation is Any or not _is_place(annotation) else UNREADABLE
    as_typed = typed is not None and isinstance(value, bool | int | float)
    if as_typed and _valid(typed, annotation, strict=True) is not UNREADABLE:
        return typed
    if not any(isinstance(one, bool) for one in (value if isinstance(value, list) else [value])):
        found = _valid(value, annotation, strict=False)
        if isinstance(found, bool | int | float | str):
            return found
        if found is not UNREADABLE:
            return list(found) if isinstance(value, list) and isinstance(found, list) else value
    if value not in (None, "") and not isinstance(value, list | dict) and _takes_list(annotation):
        return _fitted([value], annotation, None)
    return UNREADABLE


def _valid(value: Any, annotation: Any, *, strict: bool) -> Any:
    from pydantic import ValidationError

    adapter = _adapter(annotation)
    if adapter is None:  # an annotation of arrays and the like, which YAML cannot represent
        return value
    try:
        return adapter.validate_python(value, strict=strict)
    except ValidationError:
        return UNREADABLE


@lru_cache(maxsize=1024)
def _adapter(annotation: Any) -> Any:
    from pydantic import ConfigDict, PydanticUserError, TypeAdapter
    from pydantic.errors import PydanticSchemaGenerationError

    try:
        return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True, coerce_numbers_to_str=True))
    except (PydanticUserError, PydanticSchemaGenerationError, TypeError):
        return None


def _evaluated(annotation: Any, home: dict[str, Any]) -> Any:
    """Return an annotation as an object; those that name TYPE_CHECKING imports are ignored."""
    if annotation is inspect.Parameter.empty:
        return Any
    if not isinstance(annotation, str):
        return annotation
    try:
        return typing.get_type_hints(
            types.SimpleNamespace(__annotations__={"it": annotation}), home, include_extras=True
        )["it"]
    except (NameError, TypeError, AttributeError):
        return Any


def described(annotation: Any) -> str:
    """Return an annotation in plain words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return described(arguments[0]) + _limits(arguments[1:])
    if origin in (Union, types.UnionType):
        words = list(dict.fromkeys(described(one) for one in arguments))
        return " or ".join(words)
    if origin is Literal:
        *first, last = map(_shown, arguments)
        return f"{', '.join(first)} or {last}" if first else last
    if annotation in (None, type(None)):
        return "null"
    plain = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Any: "values"}
    if annotation in plain:
        return plain[annotation]
    kind = origin or annotation
    if isinstance(kind, type) and issubclass(kind, Mapping):
        inner = described(arguments[1]) if len(arguments) == 2 and arguments[1] is not Any else "value"
        return f"a mapping {{name: {re.sub('^a ', '', inner)}}}"
    if isinstance(kind, type) and issubclass(kind, Sequence | set | frozenset):
        inner = described(arguments[0]) if arguments else "value"
        return f"a list of {re.sub('^a ', '', inner).replace('number', 'numbers')}"
    if isinstance(kind, type) and hasattr(kind, "__fspath__"):
        return "a path"
    return getattr(kind, "__name__", str(kind))


def _limits(notes: Sequence[Any]) -> str:
    bounds = {"ge": "from {}", "gt": "above {}", "le": "up to {}", "lt": "below {}"}
    words = [
        text.format(getattr(note, name))
        for note in notes
        for name, text in bounds.items()
        if abs(getattr(note, name, 1e18)) < 1e15
    ]
    return f" {' and '.join(words)}" if words else ""


def _choices(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return (
        [one for part in get_args(annotation) for one in _choices(part)] if get_origin(annotation) is not None else []
    )


def _takes_list(annotation: Any) -> bool:
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType, Annotated):
        return any(_takes_list(one) for one in get_args(annotation))
    kind = origin or annotation
    return isinstance(kind, type) and issubclass(kind, Sequence) and not issubclass(kind, str)


def _is_place(annotation: Any) -> bool:
    """Return whether an annotation takes a path."""
    return hasattr(get_origin(annotation) or annotation, "__fspath__") or any(map(_is_place, get_args(annotation)))


def _shown(value: Any) -> str:
    """Return a value in command-line syntax."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    return str(value)
