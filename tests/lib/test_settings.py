import json

import pytest
import torch

from workbook import settings
from workbook.errors import WorkbookError


def test_scale_picks_its_own_size(monkeypatch):
    monkeypatch.delenv("WORKBOOK_SCALE", raising=False)
    assert settings.pick(smoke=1, default=2, full=3) == 2
    monkeypatch.setenv("WORKBOOK_SCALE", "smoke")
    assert settings.pick(smoke=1, default=2, full=3) == 1


@pytest.mark.parametrize(
    ("variable", "call"),
    [("WORKBOOK_SCALE", settings.scale), ("WORKBOOK_PRECISION", settings.working_dtype)],
)
def test_a_wrong_setting_is_told_with_its_choices(monkeypatch, variable, call):
    monkeypatch.setenv(variable, "enormous")
    with pytest.raises(WorkbookError, match=f"{variable} is 'enormous': set it to"):
        call()


def test_precision_can_be_chosen(monkeypatch):
    monkeypatch.setenv("WORKBOOK_PRECISION", "bf16")
    assert settings.working_dtype() == torch.bfloat16
    monkeypatch.setenv("WORKBOOK_PRECISION", "fp32")
    assert settings.working_dtype() == torch.float32


def test_a_hopeless_format_is_not_measured_to_the_end(monkeypatch):
    calls = []
    monkeypatch.setattr(settings.time, "perf_counter", lambda: calls.append(1) or len(calls))
    assert settings._product_seconds(torch.float32, hopeless=0.5) == 1
    assert len(calls) == 4
    assert settings._product_seconds(torch.float32, hopeless=2.0, products=3) == 1
    assert len(calls) == 10


@pytest.mark.parametrize("seconds, expected", [((1.0, 2.0), True), ((2.0, 1.0), False)])
def test_the_faster_format_is_measured_once(tmp_path, monkeypatch, seconds, expected):
    if settings.device().type != "cpu":
        pytest.skip("the probe is for processors")
    times = dict(zip((torch.bfloat16, torch.float32), seconds, strict=True))
    calls = []
    monkeypatch.setenv("WORKBOOK_CACHE", str(tmp_path))

    def product_seconds(dtype, hopeless=None):
        calls.append(dtype)
        return times[dtype]

    monkeypatch.setattr(settings, "_product_seconds", product_seconds)
    for _ in range(2):
        settings.bf16_is_faster.cache_clear()
        assert settings.bf16_is_faster() == expected
    assert len(calls) == 2
    assert list(json.loads((tmp_path / "precision.json").read_text()).values()) == [expected]
    settings.bf16_is_faster.cache_clear()


def test_a_cache_of_nobody_is_refused(monkeypatch):
    monkeypatch.setenv("WORKBOOK_CACHE", "~nobody-of-this-name/cache")
    with pytest.raises(WorkbookError, match="write the folder in full"):
        settings.cache_dir()
