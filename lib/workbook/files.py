"""Files and folders that are never half written, whatever happens meanwhile."""

import contextlib
import errno
import glob
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from .errors import WorkbookError

PATIENCE = 2.0  # seconds that a wait is not worth a word
ADVICE = "name another folder, or set WORKBOOK_CACHE to one of your own if it is in the cache"


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock of `path` between processes, and remove the drafts that killed ones left.

    Every writer of `path` must hold it, since any other draft of `path` counts as abandoned. Says
    where it has to wait.
    """
    with _clear_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_name(f".{path.name}.lock"))
        try:
            lock.acquire(timeout=PATIENCE)
        except Timeout:
            told = f"Another process is at work in {path.parent}: waiting for its end."
            print(told, file=sys.stderr, flush=True)
            lock.acquire()
        try:
            for draft in path.parent.glob(f".{glob.escape(path.stem)}.*.part{path.suffix}"):
                _remove(draft)
            yield
        finally:
            lock.release()


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a sibling to write a file or folder at; it becomes `path` if the block succeeds.

    A failed block leaves nothing. A folder can only be written where none is.
    Raises WorkbookError for a full disk or a place where writing is not allowed.
    """
    draft = path.with_name(f".{path.stem}.{os.getpid()}-{secrets.token_hex(4)}.part{path.suffix}")
    try:
        with _clear_disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield draft
            os.replace(draft, path)
    finally:
        _remove(draft)


@contextlib.contextmanager
def _clear_disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except WorkbookError:
        raise
    except Exception as error:
        message = _disk_message(error, path.parent)
        if message is None:
            raise
        raise WorkbookError(message) from error


def _disk_message(error: Exception, folder: Path) -> str | None:
    code = getattr(error, "errno", None)
    # safetensors and tokenizers pass the system's error on as text only
    full = ("No space left on device", "not enough space on the disk", "quota exceeded")
    if code in (errno.ENOSPC, errno.EDQUOT) or any(words in str(error) for words in full):
        return f"The disk of {folder} is full: free some space and run again."
    if code in (errno.ENOTDIR, errno.EEXIST) and not folder.is_dir():
        return f"{folder} is no folder: {ADVICE}."
    if code in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"Writing in {folder} is not allowed: {ADVICE}."
    return None


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        with contextlib.suppress(NotADirectoryError):  # nothing can be below a file
            path.unlink(missing_ok=True)
