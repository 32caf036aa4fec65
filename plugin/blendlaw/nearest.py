"""The end of an error message about a name that is not known."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, among: Iterable[str]) -> str:
    """`` (did you mean 'X'?)`` with the nearest of the known names, or nothing."""
    found = get_close_matches(name, list(among), n=1)
    return f" (did you mean {found[0]!r}?)" if found else ""
