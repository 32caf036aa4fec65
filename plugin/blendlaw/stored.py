"""Results as JSON files: read back into their dataclass, every value checked by its type."""

from __future__ import annotations

import json
import math
from dataclasses import MISSING, fields, is_dataclass, replace
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from blendlaw.errors import InputError
from blendlaw.nearest import nearest
from blendlaw.values import printable

T = TypeVar("T")


def from_json(kind: type[T], text: str, version: int, file: str) -> T:
    """The ``kind`` (a dataclass) in the JSON ``text`` that ``to_json`` wrote of it.

    ``file`` is what such a file is called, ``fit.json``. Raises InputError naming the key: not
    JSON, another ``version``, a key that is missing or unknown, a value of another type, a number
    that is not finite, a name with control characters.
    """
    what = f"{'an' if file[0] in 'aeiou' else 'a'} {file}"
    try:
        data = json.loads(text)
    except RecursionError:
        raise InputError(f"not {what}: JSON nested too deeply") from None
    except ValueError as error:  # malformed, or an integer of more digits than Python takes
        raise InputError(f"not {what}: {error}") from None
    if not isinstance(data, dict) or "version" not in data:
        raise InputError(f"not {what}: it has no version")
    if (given := data.pop("version")) != version:
        raise InputError(f"this blendlaw reads {file} of version {version}", value=given)
    try:
        made: T = typed(data, kind, "")
    except InputError as error:
        raise replace(error, problem=f"not {what}: {error.problem}") from None
    except (ValueError, ArithmeticError) as error:
        raise InputError(f"not {what}: {error}") from None
    return made


def typed(value: Any, hint: Any, key: str) -> Any:
    """``value``, as JSON gives it, as the type ``hint``. Raises InputError naming ``key``."""
    if hint is float:
        return _finite(value, key)
    if hint is Any:
        return value
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        (other,) = (one for one in inner if one is not NoneType)
        return None if value is None else typed(value, other, key)
    if is_dataclass(hint):
        return _made(_expect(value, dict, key), hint, key)
    if origin is dict:
        table = _expect(value, dict, key)
        return {printable(k, key): typed(v, inner[1], _under(key, k)) for k, v in table.items()}
    if origin is tuple:
        items = _expect(value, list, key)
        if inner[-1] is ...:
            inner = (inner[0],) * len(items)
        if len(items) != len(inner):
            raise InputError(f"must have {len(inner)} values", column=key, value=items)
        return tuple(typed(item, one, key) for item, one in zip(items, inner, strict=True))
    return _expect(value, hint, key)


def _finite(value: Any, key: str) -> float:
    if type(value) is not float and type(value) is not int:
        raise InputError("not a number", column=key, value=value)
    try:
        number = float(value)
    except OverflowError:
        raise InputError("too large a number", column=key) from None
    if not math.isfinite(number):
        raise InputError("not a finite number", column=key, value=value)
    return number


def _made(table: dict[str, Any], kind: Any, key: str) -> Any:
    types, required = _shape(kind)
    for name in table:
        if name not in types:
            raise InputError(f"unknown key{nearest(name, types)}", column=_under(key, name))
    for name in required:
        if name not in table:
            raise InputError("this key is required", column=_under(key, name))
    return kind(**{n: typed(value, types[n], _under(key, n)) for n, value in table.items()})


@cache
def _shape(kind: Any) -> tuple[dict[str, Any], list[str]]:
    """The types of a dataclass's fields, and the names of those without a default."""
    needed = [f.name for f in fields(kind) if f.default is f.default_factory is MISSING]
    return get_type_hints(kind), needed


def _under(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


_CALLED = {
    dict: "a table",
    list: "a list",
    str: "text",
    int: "a whole number",
    bool: "true or false",
}


def _expect(value: Any, kind: type, key: str) -> Any:
    if type(value) is not kind:
        raise InputError(f"must be {_CALLED[kind]}", column=key or None, value=value)
    return value
