"""Which directions there are, which are trained and how often, and which are reserved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from blendlaw.errors import InputError
from blendlaw.languages import canonical
from blendlaw.nearest import nearest
from blendlaw.pairs.options import Build

ARROW = "->"
MOST_LANGUAGES = 181  # whose directions 16 bits can number

Direction = tuple[int, int]  # source and target, indices into the languages


def direction_name(source: str, target: str) -> str:
    """``source->target``, by which a direction is known in files and figures."""
    return f"{source}{ARROW}{target}"


@dataclass(frozen=True)
class Directions:
    """``every`` ordered pair of languages; the ``trained`` ones with their weights; ``reserved``.

    A direction's number is its index in ``every``.
    """

    languages: tuple[str, ...]
    every: tuple[Direction, ...]
    trained: Mapping[Direction, float]
    reserved: frozenset[Direction]

    @property
    def names(self) -> tuple[tuple[str, str], ...]:
        return tuple((self.languages[a], self.languages[b]) for a, b in self.every)

    def name(self, direction: Direction) -> str:
        return direction_name(*(self.languages[one] for one in direction))


class Known:
    """The languages of a plan, found by any of their spellings."""

    def __init__(self, languages: Iterable[str]) -> None:
        self.languages = tuple(languages)
        self._index = {canonical(name): index for index, name in enumerate(self.languages)}

    def get(self, name: str) -> int | None:
        return self._index.get(canonical(name.strip()))

    def require(self, name: str, **place: object) -> int:
        """Its index. Raises InputError with the nearest one."""
        index = self.get(name)
        if index is None:
            hint = nearest(canonical(name), self.languages)
            problem = f"a language that the plan does not know{hint}"
            raise InputError(problem, value=name, **place)  # type: ignore[arg-type]
        return index


def read_directions(build: Build, languages: Iterable[str]) -> Directions:
    """The directions that ``build`` asks for among ``languages``. Raises InputError."""
    known = Known(languages)
    count = len(known.languages)
    if count < 2:
        raise InputError("pairs need a plan of two languages at least", column="languages")
    if count > MOST_LANGUAGES:
        problem = f"segments tell the directions of {MOST_LANGUAGES} languages at most"
        raise InputError(problem, column="languages", value=count)
    every = tuple((a, b) for a in range(count) for b in range(count) if a != b)
    reserved = frozenset(
        _read(name, known, f"pairs.build.reserved[{i}]") for i, name in enumerate(build.reserved)
    )
    trained: dict[Direction, float] = {}
    if build.pivot is not None:
        pivot = known.require(build.pivot, column="pairs.build.pivot")
        for other in range(count):
            if other != pivot:
                trained[pivot, other] = 1.0
                if build.both:
                    trained[other, pivot] = 1.0
    elif build.directions == "all":
        trained = dict.fromkeys(every, 1.0)
    else:
        assert isinstance(build.directions, Mapping)
        given = {
            _read(name, known, "pairs.build.directions"): weight
            for name, weight in build.directions.items()
        }
        for direction in given.keys() & reserved:
            name = direction_name(*(known.languages[one] for one in direction))
            problem = "reserved, so it cannot be trained"
            raise InputError(problem, column="pairs.build.directions", value=name)
        if build.both:
            trained = {(b, a): weight for (a, b), weight in given.items()}
        trained |= given
    trained = {one: trained[one] for one in every if one in trained and one not in reserved}
    if not trained:
        raise InputError("no direction is left to train", column="pairs.build.reserved")
    return Directions(known.languages, every, trained, reserved)


def _read(name: str, known: Known, key: str) -> Direction:
    source, arrow, target = name.partition(ARROW)
    if not arrow:
        raise InputError(f'must be "SOURCE{ARROW}TARGET"', column=key, value=name)
    direction = known.require(source, column=key), known.require(target, column=key)
    if direction[0] == direction[1]:
        raise InputError("the same language twice", column=key, value=name)
    return direction
