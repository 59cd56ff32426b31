"""Every slide of every deck, measured in the browser in a frame of 1280 x 720.

`make test-browser` lists the slides that hold too much, by notebook, cell and slide. Those in
known_offenders.yaml are to be mended in the text of their page: the list may only shrink.
"""

from collections import Counter
from pathlib import Path

import decks
import pytest
import yaml

from workbook.authoring.sources import sources

KNOWN = yaml.safe_load(Path(__file__).with_name("known_offenders.yaml").read_text("utf-8")) or []


def known(source: Path) -> set[tuple[str, str]]:
    return {(row["cell"], row["problem"]) for row in KNOWN if row["notebook"] == source.stem[:2]}


@pytest.fixture(scope="module", params=sources(), ids=lambda path: path.stem)
def deck(request, browser):
    return decks.measured(browser, request.param)


def test_every_slide_is_inside_its_frame_and_holds_little(deck):
    found = deck.offenders()
    new = [line for key, line in found.items() if key not in known(deck.source)]
    assert not new, "too much on these slides:\n" + "\n".join(new)
    mended = known(deck.source) - found.keys()
    assert not mended, f"mended, so take them out of known_offenders.yaml: {sorted(mended)}"


def test_text_is_never_shrunk_beyond_legibility(deck):
    assert min(slide.size for slide in deck.slides) >= 75


def test_a_deck_asks_no_other_host_for_anything(deck):
    assert deck.requests == [] and deck.complaints == []


def test_a_deck_is_accessible(browser, deck):
    """Axe's rules, contrast and alternative texts among them, on all slides in the print view."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    with decks.opened(browser, deck.source) as (page, _):
        page.goto(f"{page.url.partition('#')[0]}?print-pdf")
        page.locator(".pdf-page").last.wait_for(state="attached")
        assert page.locator(".pdf-page").count() == len(deck.slides)
        found = axe.run(page).response["violations"]
    assert [(rule["id"], rule["nodes"][0]["html"][:200]) for rule in found] == []


def test_every_slide_names_its_cells(deck):
    assert all(slide.cells for slide in deck.slides)


def test_the_clock_knows_the_minutes_of_the_talk(deck):
    from workbook.authoring import build

    cells = build.make(deck.source, "learner", notes=True).cells
    minutes = sum(build.own(cell).get("minutes", 0) for cell in cells)
    assert sum(slide.seconds for slide in deck.slides) == round(60 * minutes)


def test_the_list_of_offenders_is_in_order():
    keys = Counter((row["notebook"], row["cell"], row["problem"]) for row in KNOWN)
    assert max(keys.values(), default=1) == 1
    assert all(row["suggestion"].strip() for row in KNOWN)
    assert {row["notebook"] for row in KNOWN} <= {path.stem[:2] for path in sources()}
