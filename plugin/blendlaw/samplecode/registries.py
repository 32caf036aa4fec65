"""Packages from npm and Debian through their own clients; neither needs root.

apt keeps its state in the folder of the download: that of the system is read for where Debian is,
and never changed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from blendlaw.samplecode.sources import Package

SYSTEM_APT = Path("/etc/apt")
SECONDS = 600  # for one package or the index; mono is 118 MB
APT_OPTIONS = {
    "Acquire::Languages": "none",
    "Acquire::Retries": "1",
    "Acquire::http::Timeout": "20",
    "Acquire::https::Timeout": "20",
    "APT::Sandbox::User": "",
}


class Unavailable(Exception):
    """A registry, or all code of a language, cannot be had; one line says why."""


class Missing(Unavailable):
    """The registry answers, but does not give this package."""


class Registries:
    """Downloads into ``folder``. A registry that did not answer once is not asked again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._down: dict[str, Unavailable] = {}
        self._environment: Mapping[str, str] | None = None

    def download(self, package: Package) -> list[Path]:
        """The archives of a package. Raises Missing, Unavailable."""
        registry = package.registry.partition(" ")[0]
        if registry in self._down:
            raise self._down[registry]
        place = self.folder / re.sub(r"\W+", "-", package.label)
        place.mkdir()
        try:
            if registry == "npm":
                self._npm(package, place)
            else:
                self._debian(package, place)
        except Missing:
            raise
        except Unavailable as error:
            self._down[registry] = error
            raise
        found = [path for path in place.iterdir() if re.search(r"\.(tgz|deb|tar\.\w+)$", path.name)]
        if not found:
            raise Missing(f"{package.label}: nothing was downloaded")
        return sorted(found)

    def _npm(self, package: Package, place: Path) -> None:
        command = ["npm", "pack", "--loglevel=error", "--ignore-scripts", "--fetch-retries=1"]
        command += ["--fetch-retry-mintimeout=1000", "--fetch-timeout=60000", package.name]
        failed, said = run(command, place, {"npm_config_update_notifier": "false"})
        if failed:
            gone = re.search(r"\bE404\b|\bETARGET\b", said)
            if gone:
                raise Missing(f"{package.label}: {_reason(said)}")
            raise Unavailable(f"npm: {_reason(said)}")

    def _debian(self, package: Package, place: Path) -> None:
        if self._environment is None:
            self._environment = _apt(self.folder)
        command = ["apt-get", "-qq"]
        if package.registry == "debian":
            command += ["download", package.name]
        else:  # --tar-only: without Debian's own changes, which are no code
            command += ["source", "--download-only", "--tar-only", package.name]
        failed, said = run(command, place, self._environment)
        if failed:
            raise Missing(f"{package.label}: {_reason(said)}")


def _apt(folder: Path) -> Mapping[str, str]:
    """The environment in which apt-get works below ``folder``, with Debian's index there."""
    root = folder / "apt"
    for name in ("lists/partial", "sources", "cache/archives/partial"):
        (root / name).mkdir(parents=True)
    if not _copy_sources(SYSTEM_APT, root / "sources"):
        raise Unavailable("debian: this system has no apt sources of Debian or Ubuntu")
    options = APT_OPTIONS | {
        "Dir::Etc::sourcelist": "/dev/null",
        "Dir::Etc::sourceparts": str(root / "sources"),
        "Dir::State::lists": str(root / "lists"),
        "Dir::State::status": "/dev/null",
        "Dir::Cache": str(root / "cache"),
    }
    config = root / "apt.conf"
    config.write_text("".join(f'{key} "{value}";\n' for key, value in options.items()))
    environment = {"APT_CONFIG": str(config), "LC_ALL": "C"}
    failed, said = run(["apt-get", "-qq", "update"], root, environment)
    # Where nothing can be reached, apt warns and says that all is well.
    if failed or not list((root / "lists").glob("*Sources*")):
        raise Unavailable(f"debian: {_reason(said)}")
    return environment


def _copy_sources(system: Path, place: Path) -> bool:
    """Copy where the system gets Debian from, asked for source packages too; whether it says.

    Other people's repositories stay out: many have no sources, which apt takes for an error.
    """
    for name in ("debian.sources", "ubuntu.sources"):
        path = system / "sources.list.d" / name
        if path.is_file():
            types = re.compile(r"^Types:.*$", re.MULTILINE)
            text = types.sub("Types: deb deb-src\nTargets: Packages Sources", path.read_text())
            (place / name).write_text(text)
    path = system / "sources.list"
    if path.is_file():
        wanted = [m[1] for m in re.finditer(r"^deb\s+(.*https?:.*)$", path.read_text(), re.M)]
        if wanted:
            lines = [f"{kind} {rest}\n" for rest in wanted for kind in ("deb", "deb-src")]
            (place / "system.list").write_text("".join(lines))
    return any(place.iterdir())


def run(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> tuple[bool, str]:
    """Whether it failed, and what it said. Raises Unavailable if it cannot run or hangs."""
    if shutil.which(command[0]) is None:
        raise Unavailable(f"{command[0]} is not installed")
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{command[0]} did not end within {SECONDS} seconds") from None
    return done.returncode != 0, done.stdout.decode(errors="replace")


def _reason(said: str) -> str:
    """The line that says most: the first that speaks of an error in more than a code."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    marks = re.compile(r"(E:|W:|npm (?:ERR!|error)) (?!code |errno |syscall )(.*)")
    telling = [found[2] for line in lines if (found := marks.match(line))]
    return (telling or lines or ["it failed and did not say why"])[0][:300]
