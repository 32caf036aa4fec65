"""The files in a package: a tarball, a Debian package, the interpreter's standard library.

Members are read, never extracted.
"""

from __future__ import annotations

import lzma
import os
import re
import subprocess
import sysconfig
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from blendlaw.samplecode.registries import Missing

MAX_MEMBER = 1 << 20  # larger ones are data
Wanted = Callable[[str], bool]


def read_archive(path: Path, wanted: Wanted) -> Iterator[tuple[str, bytes]]:
    """Path and content of the regular files in an archive whose path is ``wanted``.

    The one folder that all of a source tarball lies in is not part of the paths. Raises Missing
    if it is no whole archive.
    """
    try:
        if path.suffix == ".deb":
            yield from _debian(path, wanted)
        else:
            with tarfile.open(path, "r:*") as tar:
                yield from _members(tar, wanted, below=1)
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        raise Missing(f"{path.name} is not a whole archive: {error}") from None


def _debian(path: Path, wanted: Wanted) -> Iterator[tuple[str, bytes]]:
    command = ["dpkg-deb", "--fsys-tarfile", str(path)]
    unpacking = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert unpacking.stdout is not None
    try:
        with tarfile.open(fileobj=unpacking.stdout, mode="r|") as tar:
            yield from _members(tar, wanted, below=0)
        while unpacking.stdout.read(1 << 16):  # what is left is padding; unread, it is an error
            pass
    finally:
        unpacking.stdout.close()
        status = unpacking.wait()
    if status:
        raise tarfile.ReadError("dpkg-deb cannot read it")


def _members(tar: tarfile.TarFile, wanted: Wanted, below: int) -> Iterator[tuple[str, bytes]]:
    for member in tar:
        name = member.name.removeprefix("./").split("/", below)[-1]
        if not member.isfile() or member.size > MAX_MEMBER or not wanted(name):
            continue
        file = tar.extractfile(member)
        assert file is not None
        yield name, file.read()


def standard_library(wanted: Wanted) -> Iterator[tuple[str, bytes]]:
    """Path and content of the running interpreter's own modules."""
    root = sysconfig.get_path("stdlib")
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(f for f in folders if not re.search("-packages$|^__pycache__$", f))
        for file in sorted(files):
            path = Path(folder, file)
            name = path.relative_to(root).as_posix()
            if wanted(name) and path.stat().st_size <= MAX_MEMBER:
                yield name, path.read_bytes()
