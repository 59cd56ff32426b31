"""Measure every slide of a deck in the browser: what leaves its frame, words, lines of code."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from workbook.authoring import build, slides

FRAME = {"width": 1280, "height": 720}
WORDS = 60
CODE_LINES = 15

# Of the present slide, as shown: notes, folded code, and what only names the part do not count.
MEASURE = r"""() => {
  const slide = Reveal.getCurrentSlide();
  const seen = (tag) => tag.checkVisibility({visibilityProperty: true, contentVisibilityAuto: true})
    && !tag.closest("details:not([open]) > :not(summary)");
  const text = [];
  const walk = document.createTreeWalker(slide, NodeFilter.SHOW_TEXT);
  let block = null;
  while (walk.nextNode()) {
    const tag = walk.currentNode.parentElement;
    const aside = ".part, .answer, .highlight, .prose pre, math, svg, details.code";
    if (!seen(tag) || tag.closest(aside)) continue;
    const own = tag.closest("p, li, td, th, pre, summary, h1, h2, h3, h4, div");
    text.push(own === block ? "" : " ", walk.currentNode.textContent);
    block = own;
  }
  const words = text.join("").split(/\s+/).filter((word) => /\p{L}/u.test(word)).length;
  const lines = [...slide.querySelectorAll(".highlight pre, .prose > pre")].filter(seen)
    .map((pre) => pre.textContent.trimEnd().split("\n").length).reduce((a, b) => a + b, 0);
  const frame = slide.getBoundingClientRect();
  const outside = [...slide.querySelectorAll("*")].filter(seen).filter((tag) => {
    const box = tag.getBoundingClientRect();
    const clipped = tag.clientWidth && getComputedStyle(tag).overflowX !== "visible"
      && tag.scrollWidth > tag.clientWidth + 1;
    return clipped || box.right > frame.right + 1 || box.left < frame.left - 1;
  });
  return {
    words, lines,
    below: slide.scrollHeight - slide.clientHeight,
    aside: outside.length,
    size: parseFloat(slide.style.fontSize || "100"),
    cells: (slide.dataset.cells || "").split(" ").filter(Boolean).map(Number),
    seconds: Number(slide.dataset.timing),
    exercise: Boolean(slide.querySelector(".solution")),
    begin: slide.innerText.trim().replace(/\s+/g, " ").slice(0, 60),
  };
}"""


@dataclass
class Slide:
    """A slide as the browser shows it."""

    number: int
    cells: list[int]
    begin: str
    words: int
    lines: int
    below: float
    aside: int
    size: float
    seconds: int
    exercise: bool
    solved_below: float = 0

    def problems(self) -> list[str]:
        """Return what is too much on the slide."""
        found = {
            "overflow": self.below > 1 or self.aside or self.solved_below > 1,
            "words": self.words > WORDS,
            "code": self.lines > CODE_LINES,
        }
        return [name for name, is_so in found.items() if is_so]


@dataclass
class Deck:
    """A deck as the browser shows it, and what it asked the network for."""

    source: Path
    slides: list[Slide] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def offenders(self) -> dict[tuple[str, str], str]:
        """Return (beginning of the slide's first cell, problem) → the slide in words."""
        cells = build.make(self.source, "solved").cells
        return {
            (_beginning(cells[slide.cells[0] - 1].source), problem): self.describe(slide)
            for slide in self.slides
            for problem in slide.problems()
        }

    def describe(self, slide: Slide) -> str:
        """Return one line for a report: notebook, cells, slide, and what was measured."""
        cells = ", ".join(map(str, slide.cells))
        return (
            f"{self.source.stem[:2]} slide {slide.number}, cell {cells}: {slide.words} words, "
            f"{slide.lines} lines of code, {max(slide.below, slide.solved_below):.0f} px below, "
            f"{slide.aside} parts aside — {slide.begin}"
        )


def _beginning(text: str) -> str:
    return text.splitlines()[0][:70]


@contextlib.contextmanager
def opened(browser, source: Path, **options) -> Iterator:
    """Yield the page of a deck, served as `workbook present` does, and its Deck."""
    deck = Deck(source)
    with slides.server(slides.page(source)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        here = f"127.0.0.1:{server.server_address[1]}"
        page = browser.new_page(viewport=FRAME, **options)
        page.on("request", lambda request: _note(request.url, here, deck.requests))
        # What the page's policy refuses never becomes a request.
        page.on("console", lambda message: deck.complaints.append(message.text))
        page.on("pageerror", lambda error: deck.complaints.append(str(error)))
        page.goto(f"http://{here}/")
        # Not a condition in JavaScript, which the policy of the page would refuse to evaluate.
        page.locator(".reveal.ready").wait_for(state="attached")
        yield page, deck
        page.close()
        server.shutdown()


def _note(url: str, here: str, requests: list[str]) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("data", "blob", "about") and parts.netloc != here:
        requests.append(url)


def measured(browser, source: Path) -> Deck:
    """Return a deck with all its slides measured, exercises with their solution too."""
    with opened(browser, source) as (page, deck):
        for number in range(1, page.evaluate("Reveal.getTotalSlides()") + 1):
            if number > 1:
                page.evaluate("Reveal.next()")
            slide = Slide(number=number, **page.evaluate(MEASURE))
            if slide.exercise:
                page.keyboard.press("a")
                slide.solved_below = page.evaluate(MEASURE)["below"]
            deck.slides.append(slide)
    return deck
