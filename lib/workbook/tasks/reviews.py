"""The human-rated snippets of Hutto & Gilbert (ICWSM 2014) as labelled rows in splits."""

import functools
import html
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from .. import assets
from ..errors import WorkbookError
from . import splits

# Mean human valence lies in [-4, 4]: polar from 1 on, neutral up to 0.5. What lies between is
# neither clear in its sentiment nor clearly without, and is left out.
POLAR_VALENCE = 1.0
NEUTRAL_VALENCE = 0.5
# Movie reviews held out of each polar label; neutral ones follow in the same proportion.
POLAR_REVIEWS = {"test": 500, "validation": 250}
FILES = {
    "movies": "movieReviewSnippets_GroundTruth.txt",
    "products": "amazonReviewSnippets_GroundTruth.txt",
    "editorials": "nytEditorialSnippets_GroundTruth.txt",
    "tweets": "tweets_GroundTruth.txt",
}
FIELDS = {
    "id": "string",
    "text": "string",
    "label": "label",
    "valence": "number",
    "domain": "string",
}
SOURCE = "Hutto & Gilbert, ICWSM 2014 (in vaderSentiment 3.3.2)"


def load_splits(domain: str, labels: Sequence[str]) -> dict[str, list[dict]]:
    """Return the reviews of a domain and some labels by split; only movies have more than test.

    No row is a near-duplicate of another, nor one of another domain of a movie review.
    """
    movies = _reviews(assets.reviews_dir() / FILES["movies"], "movies")
    if domain == "movies":
        parts = _movie_splits(movies)
    else:
        found = _reviews(assets.reviews_dir() / FILES[domain], domain)
        pool = {"test": movies, "train": found}  # of two alike the one in test stays
        parts = {"test": splits.drop_near_duplicates(pool, ["text"])["train"]}
    return {s: [row for row in part if row["label"] in labels] for s, part in parts.items()}


@functools.cache
def _reviews(path: Path, domain: str) -> list[dict]:
    """Return the labelled reviews of a file without near-duplicates, shuffled."""
    lines = path.read_text(encoding="utf-8").split("\n")
    found = [_review(f"{path.name}:{n}", line, domain) for n, line in enumerate(lines, 1) if line]
    found = [row for row in found if row["label"]]
    kept = splits.distinct([row["text"] for row in found])
    return splits.shuffled([found[index] for index in kept], ["text"])


def _review(where: str, line: str, domain: str) -> dict:
    try:
        number, valence, text = line.rstrip("\r").split("\t")
        valence = float(valence)
    except ValueError as error:
        raise WorkbookError(f"{where}: not id, valence, text: fetch the reviews again.") from error
    # The files write '' for a double quote, double spaces, and HTML entities, some of them twice.
    text = html.unescape(html.unescape(re.sub("''(?!')", '"', text)))
    text = " ".join(text.split())
    values = f"{domain}-{number}", text, _valence_label(valence), valence, domain
    return dict(zip(FIELDS, values, strict=True))


def _valence_label(valence: float) -> str | None:
    """Name the sentiment of a mean human rating; None between polar and neutral."""
    if abs(valence) >= POLAR_VALENCE:
        return "positive" if valence > 0 else "negative"
    return "neutral" if abs(valence) <= NEUTRAL_VALENCE else None


def _movie_splits(found: Sequence[dict]) -> dict[str, list[dict]]:
    """Split all three labels at once, so that the two-label view never crosses the other's."""
    counts = Counter(row["label"] for row in found)
    neutral = counts["neutral"] / (counts["negative"] + counts["positive"])
    quotas = {
        split: {("negative",): n, ("positive",): n, ("neutral",): round(2 * n * neutral)}
        for split, n in POLAR_REVIEWS.items()
    }
    return splits.stratified_split(found, ["label"], quotas)
