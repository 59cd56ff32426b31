"""README and CONTRIBUTING.md: the table is that of the recordings, and nothing leads nowhere."""

import re
from collections import Counter
from pathlib import Path

import pytest

import workbook
from workbook import course, recording, settings
from workbook.authoring import readme
from workbook.forgetting import panel

ROOT = settings.repo_root()
PAGES = ("README.md", "README.ko.md", "CONTRIBUTING.md")
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!\w+:)([^)\s#]+)")


def read(page):
    return (ROOT / page).read_text("utf-8")


@pytest.mark.parametrize("language", settings.LANGUAGES)
def test_readme_is_that_of_its_text_and_the_present_measurements(language):
    made = readme.page(language)
    assert course.table("notebooks/", language).strip() in made
    assert readme.path(language).read_text("utf-8") == made, "run `make build`"


def test_figure_of_the_readme_is_that_of_the_recording():
    if not recording.is_current(readme.CURVE):
        pytest.skip("the recording is not complete: `make measure NB=03` goes on with it")
    assert readme.picture_source() == readme.recording_hash(), "run `make build`"


def test_caption_of_the_figure_holds():
    rows = recording.load(readme.CURVE).frame.query("task == 'sentiment'")
    tuned = rows[rows["n"] > 0]
    worse = tuned[tuned["accuracy"] < rows[rows["n"] == 0]["accuracy"].item()]
    assert list(worse["n"]) == [50]
    by_size = tuned.groupby("n")["accuracy"]
    assert by_size.mean().is_monotonic_increasing and list(by_size.count().unique()) == [3]
    assert by_size.std()[1000] < by_size.std()[50] / 5
    once = tuned[tuned["n"] == 250]["accuracy"]
    assert all(once.min() <= share <= once.max() for share in read_four_times(63))
    prompts = recording.load("01_shots").frame.query("task == 'sentiment' and template == 'plain'")
    assert round(prompts[prompts["shots"] == 0]["accuracy"].item(), 2) == 0.79


def read_four_times(reviews):
    rows = recording.load("04_forgetting").frame.query(f"n == {reviews} and epochs == 4")
    scores = [panel.unpack(packed)["sentiment"] for packed in rows["panel"]]
    assert len(scores) == 3
    return [sum(each) / len(each) for each in scores]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere_and_pictures_are_described(page):
    for mark, text, target in LINK.findall(read(page)):
        assert (ROOT / target).exists(), target
        assert not mark or len(text) > 20


@pytest.mark.parametrize("page", PAGES)
def test_links_within_a_page_lead_to_a_heading(page):
    """A heading's anchor is its text in small letters, with - for each blank."""
    headings = re.findall(r"^#+ (.+)$", read(page), re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", read(page))) <= anchors


@pytest.mark.parametrize("page", PAGES)
def test_make_targets_in_the_text_exist(page):
    targets = set(re.findall(r"(?:^|`)(?:\w+=\w+ )?make ([a-z]+)", read(page), re.MULTILINE))
    assert targets
    assert targets <= set(re.findall(r"^(\w+):", read("Makefile"), re.MULTILINE))


def test_folders_in_the_readme_exist():
    folders = re.findall(r"`((?:notebooks|lib|data|tests|benchmarks)/[\w/]*)`", read("README.md"))
    assert folders and all((ROOT / folder).is_dir() for folder in folders)


def test_the_tree_of_the_readme_names_each_module_once():
    tree = read("README.md").split("## Where things live")[1].split("```")[1]
    library = Path(workbook.__file__).parent
    modules = [
        path
        for path in library.rglob("*.py")
        if path.name != "__init__.py" and not re.match(r"nb\d\d", path.name)
        and path.parent.name not in ("jupyter", "metric_scripts")
    ]  # fmt: skip
    named = re.findall(r"^ +(\w+\.py) ", tree, re.MULTILINE)
    assert Counter(named) == Counter(path.name for path in modules)
    folders = {
        path.parent.relative_to(library).parts[0] for path in modules if path.parent != library
    }
    assert folders <= set(re.findall(r"^ +(\w+)/ ", tree, re.MULTILINE))


def test_no_lesson_imports_what_makes_the_notebooks(source):
    assert "authoring" not in source.read_text("utf-8")


def test_every_setting_is_explained():
    code = "".join(path.read_text("utf-8") for path in (ROOT / "lib").rglob("*.py"))
    names = set(re.findall(r"\bWORKBOOK_[A-Z]+\b", code))
    assert names == set(re.findall(r"\bWORKBOOK_[A-Z]+\b", read("README.md")))
