"""Terms of use: shown in full as plain text, and accepted by a person before a fetch."""

import hashlib
import os
import pydoc
import re
import sys
import textwrap
import time

from bs4 import BeautifulSoup

from ..errors import WorkbookError

ACCEPTANCE = "accept"  # what a person types
LEAST_DIGITS = 12  # of the hash that `--accept-terms` names
BLOCKS = ["h1", "h2", "h3", "h4", "p", "li", "aside", "div", "section", "tr"]
LINES = textwrap.TextWrapper(88, break_long_words=False, break_on_hyphens=False)
BREAK = "\0"  # stands in no text


def accept(about: str, html: bytes, named: str | None, command: str) -> dict[str, str]:
    """Show terms in full, with what they are about, and return the record of their acceptance.

    A person at a terminal types it. Anywhere else `named`, at least the first digits of the
    SHA-256 of these very terms, stands for it; `command` is what to run with it. Raises
    WorkbookError where the terms are not accepted.
    """
    sha256, text = hashlib.sha256(html).hexdigest(), f"{about}\n{plain_text(html)}\n"
    if named is None and at_terminal():
        pydoc.pager(text)
        _ask(sha256)
        how = "typed at a terminal"
    else:
        print(text, flush=True)
        _compare(named, sha256, f"`{command} --accept-terms {sha256[:LEAST_DIGITS]}`")
        how = "--accept-terms"
    return {"sha256": sha256, "date": time.strftime("%Y-%m-%d"), "accepted": how}


def at_terminal() -> bool:
    """Tell whether a person can read and answer: no pipe, no notebook, no CI."""
    in_ci = os.environ.get("CI", "").lower() not in ("", "0", "false")
    return sys.stdin.isatty() and sys.stdout.isatty() and not in_ci


def _ask(sha256: str) -> None:
    print(f"These were the terms in full (SHA-256 {sha256[:LEAST_DIGITS]}...).")
    try:
        answer = input(f"Type {ACCEPTANCE} if you accept them; anything else fetches nothing: ")
    except EOFError:
        answer = ""
    if answer.strip().lower() != ACCEPTANCE:
        raise WorkbookError("Nothing was fetched, because the terms were not accepted.")


def _compare(named: str | None, sha256: str, command: str) -> None:
    """Raise WorkbookError unless `named` is at least the beginning of the hash."""
    if named is None:
        raise WorkbookError(
            "Nothing was fetched: to accept terms takes a person, and here is no terminal to ask "
            f"at; if you have read them in full (above) and accept them, run {command}."
        )
    if len(named) < LEAST_DIGITS or not sha256.startswith(named.lower()):
        raise WorkbookError(
            f"Nothing was fetched: {named!r} is not the hash of the terms shown above; if you have "
            f"read them and accept them, run {command}."
        )


def plain_text(html: bytes) -> str:
    """Return the article of a page as plain text, links with their addresses."""
    page = BeautifulSoup(html, "html.parser")
    article = page.find("article") or page
    for hidden in article(["script", "style"]):
        hidden.decompose()
    for link in article("a", href=re.compile("^https?:")):
        link.append(f" <{link['href']}>")
    for block in article(BLOCKS):
        block.insert_before(f"{BREAK}- " if block.name == "li" else BREAK)
        block.insert_after(BREAK)
    paragraphs = (" ".join(part.split()) for part in article.get_text().split(BREAK))
    kept = [paragraph for paragraph in paragraphs if paragraph.strip("- ")]
    return "\n\n".join(LINES.fill(paragraph) for paragraph in kept)
