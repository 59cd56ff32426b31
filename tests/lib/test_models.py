"""Loading, counting, snapshots."""

import http.server
import importlib.util
import json
import os
import subprocess
import sys
import threading

import huggingface_hub
import pytest
import torch

from workbook import assets, models, tasks
from workbook.errors import WorkbookError


@pytest.fixture
def saved(tiny_model, tiny_tokenizer, tmp_path):
    """A folder with the tiny model and its tokenizer."""
    folder = tmp_path / "saved"
    tiny_model.save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


def logits(model, tokenizer, text="The film is good."):
    with torch.no_grad():
        return model(**tokenizer(text, return_tensors="pt").to(model.device)).logits.cpu()


def test_load_gives_the_saved_model_back_exactly(saved, tiny_model, tiny_tokenizer):
    model, tokenizer = models.load(str(saved))
    assert not model.training
    assert tokenizer.get_vocab() == tiny_tokenizer.get_vocab()
    assert tokenizer.chat_template == tiny_tokenizer.chat_template
    assert torch.equal(logits(model, tokenizer), logits(tiny_model, tiny_tokenizer))


def test_load_reads_the_setting(saved, monkeypatch):
    monkeypatch.setenv("WORKBOOK_MODEL", str(saved))
    assert models.load()[0].config.hidden_size == 32


def test_load_uses_the_embedded_model_by_default(saved, monkeypatch):
    monkeypatch.delenv("WORKBOOK_MODEL", raising=False)
    monkeypatch.setattr(assets, "model_dir", lambda: saved)
    assert models.load()[0].config.hidden_size == 32
    assert models.load(models.DEFAULT_MODEL)[0].config.hidden_size == 32


def test_load_leaves_the_random_state_and_the_screen_alone(saved, capfd, recwarn):
    before = torch.get_rng_state()
    models.load(str(saved))
    assert torch.equal(before, torch.get_rng_state())
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


def test_load_converts_to_the_asked_number_format(saved):
    model, _ = models.load(str(saved), dtype=torch.bfloat16)
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}


def test_load_gives_a_pad_token_and_a_cache(saved, tiny_model, tiny_tokenizer):
    tiny_tokenizer.pad_token = None
    tiny_tokenizer.save_pretrained(saved)
    tiny_model.config.use_cache = False
    tiny_model.save_pretrained(saved)
    model, tokenizer = models.load(str(saved))
    assert tokenizer.pad_token == tokenizer.eos_token
    assert model.generation_config.pad_token_id == tokenizer.eos_token_id
    assert model.config.use_cache


def test_load_changes_nothing_on_disk(saved):
    before = (saved / "model.safetensors").read_bytes()
    model, _ = models.load(str(saved))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(1)
    assert (saved / "model.safetensors").read_bytes() == before


def test_load_refuses_a_folder_with_pickled_weights_only(saved):
    (saved / "model.safetensors").unlink()
    torch.save({}, saved / "pytorch_model.bin")
    with pytest.raises(WorkbookError, match="no \\*.safetensors file"):
        models.load(str(saved))


def test_load_does_not_run_code_of_the_model(saved, tiny_tokenizer, tmp_path):
    trace = tmp_path / "ran"
    (saved / "custom.py").write_text(f"open({str(trace)!r}, 'w')\nclass C: pass\n")
    (saved / "config.json").write_text(
        '{"model_type": "mine", "auto_map": {"AutoConfig": "custom.C",'
        ' "AutoModelForCausalLM": "custom.C"}}'
    )
    with pytest.raises(WorkbookError):
        models.load(str(saved))
    assert not trace.exists()


@pytest.mark.parametrize("broken", ["model.safetensors", "config.json", "tokenizer.json"])
def test_load_names_a_damaged_folder(saved, broken):
    (saved / broken).write_bytes((saved / broken).read_bytes()[:100])
    with pytest.raises(WorkbookError, match="saved is damaged"):
        models.load(str(saved))


def test_load_refuses_missing_weights(saved, tiny_model):
    state = {k: v for k, v in tiny_model.state_dict().items() if "layers.1" not in k}
    tiny_model.save_pretrained(saved, state_dict=state)
    with pytest.raises(WorkbookError, match="damaged"):
        models.load(str(saved))


def configure(folder, **changes):
    """Write other settings into a saved model's configuration."""
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize("size", ["intermediate_size", "vocab_size", "num_hidden_layers"])
def test_load_refuses_weights_of_another_size(saved, size):
    configure(saved, **{size: 3})
    with pytest.raises(WorkbookError, match="damaged"):
        models.load(str(saved))


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is not None, reason="it is here")
def test_load_says_what_a_quantized_model_needs(saved):
    """Such a folder is not damaged."""
    configure(saved, quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})
    with pytest.raises(WorkbookError, match="bitsandbytes.*without quantization"):
        models.load(str(saved))


@pytest.mark.parametrize("name", ["nobody/no-such-model", "./not-there", "no good name!"])
def test_load_says_what_to_do_about_an_unknown_name(name, offline_hub):
    with pytest.raises(WorkbookError, match="check the name, the revision and the connection"):
        models.load(name)


@pytest.fixture(params=["socks5", "http"])
def proxy(request, monkeypatch, tmp_path):
    """A proxy that needs a package that is not here, or one that wants a password."""
    asked = []

    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_CONNECT(self):
            asked.append(self.path)
            self.send_error(407)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"{request.param}://127.0.0.1:{server.server_port}"
    for variable in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(variable, url)
    for variable in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    huggingface_hub.close_session()  # it knows the proxies that were set when it began
    yield
    huggingface_hub.close_session()
    server.shutdown()
    server.server_close()
    assert bool(asked) == (request.param == "http")


def test_a_proxy_that_leads_nowhere_is_one_sentence(proxy):
    with pytest.raises(WorkbookError, match="cannot be reached: check the name"):
        models.load("nobody/no-such-model")
    with pytest.raises(WorkbookError, match="is not to be had .*: connect to the internet once"):
        tasks.load_task("nobody/no-such-rows")


def test_load_takes_a_hub_model_from_the_hub_cache(saved, offline_hub, tmp_path):
    home = tmp_path / "hub" / "models--me--tiny"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "v1").write_text("abc")
    (home / "snapshots").mkdir()
    saved.rename(home / "snapshots" / "abc")
    assert models.load("me/tiny", revision="v1")[0].config.hidden_size == 32
    with pytest.raises(WorkbookError, match="the revision"):
        models.load("me/tiny", revision="v2")


def test_load_opens_no_connection_for_a_folder(saved):
    program = (
        "import socket, sys\n"
        "def refuse(*args): raise SystemExit('a connection was opened')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from workbook import models\n"
        "models.load(sys.argv[1])\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(saved)], capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_count_parameters_counts_tied_weights_once(tiny_model):
    attention, mlp, norms = 2 * 32 * 32 + 2 * 32 * 16, 3 * 32 * 64, 2 * 32
    embeddings, last_norm = 400 * 32, 32
    total = embeddings + 2 * (attention + mlp + norms) + last_norm
    assert models.count_parameters(tiny_model) == models.Parameters(total, total)
    tiny_model.requires_grad_(False)
    tiny_model.get_input_embeddings().requires_grad_(True)
    counted = models.count_parameters(tiny_model)
    assert counted == models.Parameters(total, embeddings)
    assert counted.share == embeddings / total


def test_restore_is_exact_and_keeps_the_tie(tiny_model):
    taken = models.snapshot(tiny_model)
    kept = {name: tensor.clone() for name, tensor in taken.items()}
    with torch.no_grad():
        for weight in tiny_model.parameters():
            weight.mul_(1.1).add_(torch.randn_like(weight))
    assert not torch.equal(tiny_model.lm_head.weight, taken["model.embed_tokens.weight"])
    models.restore(tiny_model, taken)
    for name, tensor in models.snapshot(tiny_model).items():
        assert torch.equal(tensor, kept[name])
    assert tiny_model.lm_head.weight is tiny_model.get_input_embeddings().weight


def test_restore_takes_no_gradient_and_shares_no_memory(tiny_model):
    taken = models.snapshot(tiny_model)
    models.restore(tiny_model, taken)
    weight = tiny_model.get_input_embeddings().weight
    assert weight.requires_grad and weight.grad_fn is None
    assert weight.data_ptr() != taken["model.embed_tokens.weight"].data_ptr()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda taken: taken.pop("model.norm.weight"),
        lambda taken: taken.update(extra=torch.zeros(1)),
        lambda taken: taken.update({"model.norm.weight": torch.zeros(31)}),
        lambda taken: taken.update({"model.norm.weight": torch.ones(32).bfloat16()}),
    ],
    ids=["missing", "unknown", "shape", "format"],
)
def test_restore_refuses_another_model_and_writes_nothing(tiny_model, spoil):
    taken = {name: tensor + 1 for name, tensor in models.snapshot(tiny_model).items()}
    before = models.snapshot(tiny_model)
    spoil(taken)
    with pytest.raises(WorkbookError, match="of another model"):
        models.restore(tiny_model, taken)
    after = models.snapshot(tiny_model)
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.real_model
def test_the_embedded_model_is_itself(monkeypatch):
    monkeypatch.delenv("WORKBOOK_MODEL", raising=False)
    model, tokenizer = models.load()
    assert models.count_parameters(model).total == 134_515_008
    assert tokenizer.pad_token == tokenizer.eos_token == "<|im_end|>"
    text = "Café, 12345  spaces\n\n1. ✓ 한국어\t<tag>"
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert tokenizer.tokenize("a\n\n1. b") == ["a", "ĊĊ", "1", ".", "Ġb"]
    question = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(
        question, add_generation_prompt=True, return_tensors="pt", return_dict=True
    ).to(model.device)
    answer = model.generate(**prompt, max_new_tokens=20, do_sample=False)[0]
    assert "Paris" in tokenizer.decode(answer[prompt["input_ids"].shape[1] :])
    assert answer[-1] == tokenizer.eos_token_id


@pytest.mark.real_model
def test_the_embedded_model_loads_in_silence(tmp_path):
    program = "from workbook import models; models.load()"
    environment = {k: v for k, v in os.environ.items() if k != "WORKBOOK_MODEL"}
    assets.model_dir()
    run = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
