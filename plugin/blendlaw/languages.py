"""Programming languages: their names, aliases, file extensions and colours.

Names in observations and plans stay as their authors wrote them; ``canonical`` is for matching
the languages of one file to those of another.
"""

from __future__ import annotations

import colorsys
import hashlib
from dataclasses import dataclass
from pathlib import PurePath


@dataclass(frozen=True)
class Language:
    """A language; ``extensions`` with their dot, lower case; ``colour`` as ``#rrggbb``."""

    name: str
    aliases: tuple[str, ...]
    extensions: tuple[str, ...]
    colour: str


def _spread(name: str) -> str:
    """A colour that depends on the name alone, dark enough to be read on white."""
    digest = hashlib.sha256(name.encode(errors="replace")).digest()
    red, green, blue = colorsys.hls_to_rgb(digest[0] / 256, 0.22 + digest[1] / 2000, 0.6)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


def _language(name: str, aliases: str, extensions: str, colour: str | None = None) -> Language:
    return Language(
        name, tuple(aliases.split()), tuple(extensions.split()), colour or _spread(name)
    )


# The first seven are drawn together most often. Their colours were searched for: contrast with
# white of at least 3, and the largest distance between any two of them as seen with normal,
# protan, deutan and tritan vision (33 in CIELAB).
LANGUAGES = (
    _language("Python", "py python3", ".py .pyi .pyw", "#3590ff"),
    _language("Java", "", ".java", "#673c06"),
    _language("JavaScript", "js ecmascript node", ".js .mjs .cjs .jsx", "#a79400"),
    _language("TypeScript", "ts", ".ts .tsx .mts .cts", "#6a03ff"),
    _language("C#", "csharp c-sharp c_sharp cs", ".cs .csx", "#ff4da7"),
    _language("Go", "golang", ".go", "#005b50"),
    _language("Rust", "rs", ".rs", "#000000"),
    _language("C", "ansi-c", ".c .h"),
    _language("C++", "cpp cplusplus cxx c-plus-plus", ".cpp .cc .cxx .hpp .hh .hxx"),
    _language("PHP", "", ".php"),
    _language("Ruby", "rb", ".rb"),
    _language("Swift", "", ".swift"),
    _language("Kotlin", "kt", ".kt .kts"),
    _language("Scala", "", ".scala .sc"),
    _language("Shell", "sh bash zsh shellscript", ".sh .bash .zsh"),
    _language("SQL", "", ".sql"),
    _language("R", "rlang", ".r"),
    _language("Julia", "jl", ".jl"),
    _language("Lua", "", ".lua"),
    _language("Perl", "pl", ".pl .pm"),
    _language("Haskell", "hs", ".hs"),
    _language("Dart", "", ".dart"),
    _language("Fortran", "f90", ".f90 .f95 .f03 .f"),
    _language("Objective-C", "objc objectivec obj-c", ".m .mm"),
    _language("HTML", "", ".html .htm"),
    _language("CSS", "", ".css"),
)

_BY_NAME = {
    alias.casefold(): language
    for language in LANGUAGES
    for alias in (language.name, *language.aliases)
}
_BY_EXTENSION = {extension: language for language in LANGUAGES for extension in language.extensions}


def canonical(name: str) -> str:
    """The usual spelling of a language by its name or alias in any case; unknown names as given."""
    known = _BY_NAME.get(name.strip().casefold())
    return known.name if known else name


def by_extension(path: str | PurePath) -> Language | None:
    """The language of a file by its extension, in any case; None if it is not a known one."""
    return _BY_EXTENSION.get(PurePath(path).suffix.lower())


def colour(name: str) -> str:
    """The colour of a language, ``#rrggbb``; for an unknown name, always the same one."""
    known = _BY_NAME.get(name.strip().casefold())
    return known.colour if known else _spread(name)
