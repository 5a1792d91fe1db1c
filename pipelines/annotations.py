"""What a user's function says it returns: where bytes are needed, a function's annotation gives the codec."""

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Iterable
from typing import Any

from penstock.agents.steps import UNKNOWN
from penstock.tables.serdes import Serde, UnknownType, serde_of
from penstock.tables.windowed import Windowed


def returned(fn: Callable[..., Any]) -> Any:
    """The annotated return type of a function, a class itself, or UNKNOWN.

    >>> def carrier(flight: dict) -> str: ...
    >>> returned(carrier)
    <class 'str'>
    >>> returned(lambda flight: flight["carrier"])
    unknown
    """
    if isinstance(fn, type):
        return fn
    if isinstance(fn, functools.partial):
        return returned(fn.func)
    target = fn if isinstance(fn, types.FunctionType | types.MethodType) else getattr(fn, "__call__", fn)  # noqa: B004
    try:
        hint = typing.get_type_hints(target, include_extras=True).get("return", UNKNOWN)
    except Exception:  # a name only the type checker knows
        hint = getattr(target, "__annotations__", {}).get("return", UNKNOWN)
    if isinstance(hint, str | typing.TypeVar) or hint is None or hint is type(None) or hint is Any:
        return UNKNOWN
    return hint


def element(tp: Any) -> Any:
    """What an iterable type holds, or UNKNOWN.

    >>> element(list[int])
    <class 'int'>
    """
    origin, args = typing.get_origin(tp), typing.get_args(tp)
    if args and isinstance(origin, type) and issubclass(origin, Iterable):
        return args[0]
    return UNKNOWN


def present(tp: Any) -> Any:
    """A type without None, which stands for no result.

    >>> present(int | None)
    <class 'int'>
    """
    if typing.get_origin(tp) in (typing.Union, types.UnionType):
        arms = tuple(arm for arm in typing.get_args(tp) if arm is not type(None))
        return typing.Union[arms]  # noqa: UP007 - the members are only known here
    return tp


def optional(tp: Any) -> Any:
    """A type, or codec, with None, which stands for a deleted row."""
    if tp is UNKNOWN:
        return tp
    if isinstance(tp, Serde):
        return dataclasses.replace(tp, type=optional(tp.type), nullable=True)
    return tp | None


def given(explicit: Any, inferred: Any) -> Any:
    """The type a user wrote (`key=`, `value=`), else the inferred one."""
    if explicit is None:
        return inferred
    return explicit


def python_type(tp: Any) -> Any:
    """The Python type behind a type or a Serde."""
    return tp.type if isinstance(tp, Serde) else tp


def codec(tp: Any) -> Serde[Any]:
    """The codec of a type, or MISSING: the declaration goes on and `check` reports it."""
    if tp is UNKNOWN:
        return MISSING
    try:
        return serde_of(tp)
    except UnknownType:
        return MISSING


def _refuse(value: Any) -> Any:
    raise UnknownType("this step has no codec; `penstock check` says where to declare one")


MISSING: Serde[Any] = Serde("unknown", UNKNOWN, _refuse, _refuse)


def name_of(tp: Any) -> str:
    """How a type is shown in messages."""
    tp = python_type(tp)
    if typing.get_origin(tp) is Windowed:
        return f"Windowed[{name_of(typing.get_args(tp)[0])}]"
    return tp.__name__ if isinstance(tp, type) and not typing.get_args(tp) else str(tp).replace("typing.", "")


def label_of(fn: Any) -> str:
    """How a function is shown: its name, without the module."""
    name = getattr(fn, "__qualname__", None) or type(fn).__name__
    return name.rpartition("<locals>.")[2].replace("<lambda>", "lambda")
