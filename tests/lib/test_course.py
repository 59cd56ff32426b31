"""The plan of the course, what exists of it, and the README made from it."""

import json

import pytest
from PIL import Image

from workbook import course, measurements, recording, settings
from workbook.authoring import readme

README = "# Course\n\n<!-- minutes:start -->\nold\n<!-- minutes:end -->\n\nThe end.\n"
ENTRY = {
    "headline": "test_accuracy",
    "values": {"test_accuracy": [0.9, 0.88, 0.92]},
    "precision": "fp32",
    "seed": 0,
    "cost": {"minutes": 3.2, "peak_memory_gb": 2.5},
}


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A course in which 00 and 03 exist, and 03 was measured."""
    monkeypatch.setattr(settings, "repo_root", lambda: tmp_path)
    (tmp_path / "notebooks" / "recorded" / "measured").mkdir(parents=True)
    (tmp_path / "notebooks" / "recorded" / "sweeps").mkdir()
    (tmp_path / "README.md").write_text(README, "utf-8")
    for name in ("00_start_here", "03_tuning"):
        (tmp_path / "notebooks" / f"{name}.ipynb").touch()
    measurements.keep("03", ENTRY, is_shown=True)
    return tmp_path


def test_chapters_are_numbered_from_00():
    numbers = [chapter.number for chapter in course.CHAPTERS]
    assert numbers == [f"{n:02}" for n in range(13)]


def test_table_tells_what_is_measured_and_what_is_planned(checkout):
    lines = course.table().splitlines()
    assert lines[2].endswith("| – | – | not measured yet |")
    assert lines[3].startswith("| 03 | [Single-task tuning](03_tuning.ipynb) |")
    assert lines[3].endswith("| 3.2 min, 2.5 GB | – | test accuracy 0.90 [0.88, 0.92] |")
    assert lines[-1].startswith("Planned, not written yet: 01 In-context learning, 02 ")
    assert "03 Single" not in lines[-1]


def test_cost_of_each_number_format_is_told(checkout):
    other = {**ENTRY, "precision": "bf16", "cost": {"minutes": 1.9, "peak_memory_gb": 4.1}}
    measurements.keep("03", other, is_shown=False)
    assert "| 3.2 min, 2.5 GB | 1.9 min, 4.1 GB |" in course.table()
    assert measurements.shown("03") == ENTRY
    assert course.peak_memory_gb() == 4.1


def test_readme_is_refreshed_between_its_marks(checkout):
    readme.refresh_readme()
    text = (checkout / "README.md").read_text("utf-8")
    assert "](notebooks/03_tuning.ipynb)" in text and "old" not in text
    assert text.startswith("# Course\n") and text.endswith("<!-- minutes:end -->\n\nThe end.\n")
    readme.refresh_readme()
    assert (checkout / "README.md").read_text("utf-8") == text


def test_map_shows_what_exists_and_what_is_planned(checkout):
    boxes = course.draw_map().axes[0].patches
    assert [box.get_linestyle() == "-" for box in boxes[:5]] == [True, False, False, True, False]
    assert len(boxes) == 13
    ready, planned = course.describe_map().split("planned:")
    assert "03 Single-task tuning" in ready and "04 Catastrophic forgetting" in planned


@pytest.fixture
def recorded_curve(checkout, monkeypatch):
    """A recording with every point; returns its file."""
    sizes = [(0, 0), *((n, seed) for n in (50, 1000) for seed in range(3))]
    rows = [
        {"task": task, "n": n, "seed": seed, "accuracy": 0.7 + n / 5000, "predictions": "0" * 100}
        for n, seed in sizes
        for task in ("sentiment", "sentiment-3")
    ]
    path = checkout / "notebooks" / "recorded" / "sweeps" / "03_learning_curve.json"
    path.write_text(json.dumps({"settings": {}, "rows": rows, "source_sha256": ""}))
    monkeypatch.setattr(recording, "is_current", lambda name: True)
    return path


def test_picture_is_redrawn_only_after_its_recording_changed(recorded_curve):
    assert readme.picture_source() is None
    readme.refresh_picture()
    assert Image.open(readme.picture()).width > 500
    assert readme.picture_source() == readme.recording_hash()
    made = readme.picture().stat().st_mtime_ns
    readme.refresh_picture()
    assert readme.picture().stat().st_mtime_ns == made
    recorded_curve.write_text(recorded_curve.read_text() + "\n")
    readme.refresh_picture()
    assert readme.picture().stat().st_mtime_ns > made


def test_picture_waits_for_a_complete_recording(recorded_curve, monkeypatch):
    monkeypatch.setattr(recording, "is_current", lambda name: False)
    readme.refresh_picture()
    assert not readme.picture().exists()
