"""Reading files of bounded size; writing so that a crash leaves the old content or the new."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from blendlaw.errors import InputError

MAX_BYTES = 1 << 28


def read_text(path: str | Path, most: int = MAX_BYTES) -> str:
    """The UTF-8 text of a file (a byte order mark is left out).

    Raises InputError if it has more than ``most`` bytes or is not UTF-8, OSError if it cannot be
    read.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        content = b"" if size > most else file.read(most + 1)
    if max(size, len(content)) > most:
        raise InputError(f"larger than {most:,} bytes: refused", file=path)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 at byte {error.start}", file=path) from None


def require_writable(path: str | Path) -> None:
    """OSError, with the path in it, if it is a folder or its folder is not there or read-only."""
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder, not a file to write", str(path))
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "there is no such folder to write to", str(path))
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(errno.EACCES, "its folder cannot be written to", str(path))


def write_atomically(path: str | Path, content: str | bytes) -> None:
    """Write beside ``path``, fsync, rename over it; a link stays one, a device is written to.

    Raises OSError (with the path in it) if the folder is missing or cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    target = Path(path)
    try:
        if target.exists() and not target.is_file() and not target.is_dir():
            target.write_bytes(data)  # /dev/stdout or a pipe: nothing may take its place
            return
        target = Path(os.path.realpath(target))
        require_writable(target)
        _replace(target, data)
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise


def _replace(path: Path, data: bytes) -> None:
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=".blendlaw-", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        # mkstemp makes the file private; give it the mode an ordinary open would have given.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(beside, path.stat().st_mode if path.exists() else 0o666 & ~mask)
        os.replace(beside, path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise
    sync(path.parent)


def sync(path: Path) -> None:
    """Put a file, or a folder's list of files, on the disk: what comes back survives a crash."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
