"""Real code where the registries give it, generated code for every language where they do not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from blendlaw.samplecode.fetching import Progress, fetch, quiet
from blendlaw.samplecode.generated import generate
from blendlaw.samplecode.manifest import Manifest
from blendlaw.samplecode.registries import Unavailable


@dataclass(frozen=True)
class SampleCode:
    """Code in ``folder``, a file a language. ``reason`` says why it is generated; None if real."""

    folder: Path
    manifest: Manifest
    reason: str | None

    @property
    def generated(self) -> bool:
        """Whether blendlaw made it up: no claim about real code can rest on it."""
        return self.manifest.origin == "generated"

    @property
    def files(self) -> dict[str, Path]:
        """By language, the JSONL that ``blendlaw corpus`` takes."""
        return {name: self.folder / one.file for name, one in self.manifest.languages.items()}

    @property
    def licences(self) -> list[str]:
        """Those of all that was taken, by name."""
        codes = self.manifest.languages.values()
        return sorted({archive.licence for code in codes for archive in code.archives})


def sample_code(
    out: Path,
    megabytes: float = 4.0,
    *,
    generated: bool = False,
    progress: Progress = quiet,
) -> SampleCode:
    """About ``megabytes`` of text of each of the seven languages, fetched into ``out``.

    If one of them cannot be had, or ``generated`` is asked for, all are generated, into
    ``out/generated``: real code of some beside generated code of others would compare what cannot
    be compared. Raises InputError, OSError.
    """
    reason = "generated code was asked for"
    if not generated:
        try:
            return SampleCode(
                out, fetch(out, megabytes=megabytes, progress=progress, strict=True), None
            )
        except Unavailable as error:
            reason = str(error)
            progress(f"generating code instead: {reason}")
    folder = out / "generated"
    return SampleCode(folder, generate(folder, megabytes=megabytes, progress=progress), reason)
