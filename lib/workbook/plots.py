"""Figures legible on a projector: each function takes plain data and returns a Figure."""

import base64
import contextlib
import contextvars
import functools
import html
import io
import time

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from adjustText import adjust_text
from IPython.display import HTML, display
from matplotlib import font_manager, patheffects
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import NullLocator
from PIL import Image

from . import settings, translation
from .errors import WorkbookError

# The colour-blind safe palette of Okabe & Ito (2008).
OKABE_ITO = {
    "black": "#000000",
    "orange": "#E69F00",
    "sky blue": "#56B4E9",
    "green": "#009E73",
    "yellow": "#F0E442",
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "purple": "#CC79A7",
}
# On white, orange and sky blue are fainter than the 3:1 that thin lines need (WCAG 1.4.11): brown
# and violet stand for them, as far from the others, also to eyes that see two kinds of colour.
STRONGER = {"brown": "#733C1E", "violet": "#7800E1"}
SERIES = [
    (OKABE_ITO | STRONGER)[name] for name in ("blue", "brown", "green", "purple", "violet", "black")
]
MARKERS = "osD^vP"
STYLE = {
    "font.size": 14,
    "axes.labelsize": 15,
    "axes.prop_cycle": mpl.cycler(color=SERIES),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.linewidth": 0.5,
    "grid.alpha": 0.5,
    "figure.dpi": 110,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "legend.frameon": False,
    "lines.linewidth": 2.5,
}


# Korean fonts of the usual systems; the last has Hangul too, and is what a collection is found by.
KOREAN = (
    "Noto Sans CJK KR", "Noto Sans KR", "NanumGothic", "Malgun Gothic", "Apple SD Gothic Neo",
    "AppleGothic", "Pretendard", "UnDotum", "Noto Sans CJK JP",
)  # fmt: skip


def style() -> None:
    """Set large type, the Okabe-Ito colours and a thin grid for every figure from now on."""
    mpl.rcParams.update(STYLE)


def show(fig: Figure, alt: str) -> None:
    """Display a figure with its alternative text, and close it.

    The picture goes out as HTML too, because JupyterLab and nbconvert read the alternative text
    there and pass over the one in the metadata. Raises WorkbookError for a text under 20
    characters.
    """
    data, metadata = _mimebundle(fig, alt)
    display(data, metadata=metadata, raw=True)


def as_html(fig: Figure, alt: str) -> str:
    """Return a figure as an HTML image with its data and alternative text; errors as `show`."""
    return _mimebundle(fig, alt)[0]["text/html"]


class LiveLosses:
    """Draws the training loss while `fit` runs (pass it as `on_step`), at most every two seconds.

    `finish` puts the final figure, with its alternative text, in the same place.
    """

    def __init__(self):
        self.handle = display({"text/plain": "The loss curve follows."}, raw=True, display_id=True)
        self.drawn = 0.0

    def __call__(self, history) -> None:
        """Redraw the curve of the steps so far."""
        if time.monotonic() - self.drawn > 2:
            self._draw(history, f"Training loss after {len(history.steps)} steps, still running.")
            self.drawn = time.monotonic()

    def finish(self, history, alt: str) -> None:
        """Draw the whole curve, also where the run came from the cache."""
        self._draw(history, alt)

    def _draw(self, history, alt):
        curves = {"training": [(row["step"], row["loss"]) for row in history.steps]}
        places = np.cumsum([row["steps"] for row in history.epochs])
        rows = [row for row in history.epochs if "validation_loss" in row]
        if rows:
            pairs = zip(places, (row["validation_loss"] for row in rows), strict=True)
            curves["validation"] = list(pairs)
        data, metadata = _mimebundle(losses(curves), alt)
        if self.handle:  # none outside IPython
            self.handle.update(data, metadata=metadata, raw=True)


def _mimebundle(fig, alt):
    if len(alt.strip()) < 20:
        raise WorkbookError(f"Alternative text {alt!r} is too short: say in words what it shows.")
    image = _image(fig)
    png = io.BytesIO()
    image.save(png, format="png", optimize=True)
    picture = base64.b64encode(png.getvalue()).decode()
    width, height = image.size
    tag = f'<img src="data:image/png;base64,{picture}" alt="{html.escape(alt)}" width="{width}">'
    metadata = {"alt": alt, "width": width, "height": height}
    data = {"text/html": tag, "image/png": picture, "text/plain": alt}
    return data, {"image/png": metadata}


def curve(
    points,
    x,
    y,
    *,
    low=None,
    high=None,
    series=None,
    baseline=None,
    baseline_label="zero-shot",
    band="band: from the lowest dot to the highest",
    dot=(),
    log=False,
    xlabel=None,
    ylabel=None,
) -> Figure:
    """Draw y against x from rows (dicts or a DataFrame), one line for each value of `series`.

    With `low` and `high`, which name columns, the band is theirs; without, each row is a dot (a
    seed, a draw), the line their mean, and the band runs from the lowest to the highest. `band`
    says below the figure what the band is.
    `baseline` is a number or (estimate, low, high), and so is y in the reader's own (x, y) pairs,
    given as `dot`. `log` spaces x evenly by factors, with room for 0.
    """
    frame = pd.DataFrame(points)
    fig, ax = _axes(xlabel or x, ylabel or y)
    groups = frame.groupby(series, sort=False) if series else [("recorded", frame)]
    for index, (name, rows) in enumerate(groups):
        label = f"{name} (recorded)" if series and dot else str(name)
        _line(ax, rows, x, (low, y, high), label, index)
    if baseline is not None:
        _baseline(ax, baseline, baseline_label)
    _own_dots(ax, dot)
    _ticks(ax, sorted({*frame[x], *(place for place, _ in dot)}), log)
    _legend(fig)
    if low or frame.duplicated([series, x] if series else [x]).any():
        _note(fig, band)
    return fig


def bars(
    values, intervals, labels, *, xlabel, whiskers, reference=None, reference_label=""
) -> Figure:
    """Draw one dot with its interval for each label, the first on top.

    An interval is (low, high) or (estimate, low, high); `whiskers` says below the figure what it
    is, such as "95 % interval over the items". `reference` is a vertical line, such as the level
    of chance; its label goes into the legend.
    """
    fig, ax = _axes(xlabel, "", height=1.2 + 0.55 * len(labels))
    ends = np.array([interval[-2:] for interval in intervals], dtype=float).T
    rows = np.arange(len(labels))
    lengths = np.abs(ends - np.asarray(values, dtype=float))
    ax.errorbar(values, rows, xerr=lengths, fmt="o", markersize=9, capsize=5, color=SERIES[0])
    ax.set_yticks(rows, labels)
    ax.set_ylim(len(labels) - 0.5, -0.5)
    if reference is not None:
        ax.axvline(reference, color=OKABE_ITO["black"], linestyle="--", label=reference_label)
    if reference_label:
        _legend(fig)
    _note(fig, f"whiskers: {whiskers}")
    return fig


def stacked(rows, *, xlabel, marks=(), mark="measured", limits=None) -> Figure:
    """Draw a bar of parts for each row, the first on top; `rows` maps a name to {part: size}.

    `marks` are numbers, one a row, drawn as stars; `mark` is their name. `limits` maps the names of
    vertical lines to their places; bars that are much longer are cut, and say how long they are.
    """
    fig, ax = _axes(xlabel, "", height=1.4 + 0.5 * len(rows))
    limits, ends = limits or {}, _bars_of_parts(ax, rows)
    if len(marks):
        look = {"marker": "*", "s": 260, "color": OKABE_ITO["vermillion"], "edgecolor": "black"}
        ax.scatter(marks, range(len(rows)), label=mark, zorder=5, **look)
    for line, (name, place) in zip(("--", ":", "-."), limits.items(), strict=False):
        ax.axvline(place, color=OKABE_ITO["black"], linestyle=line, label=name)
    ax.set_xlim(0, 1.05 * max(*ends, *marks, *limits.values(), 0))
    _cut(ax, ends, 1.6 * max(limits.values(), default=float("inf")))
    _legend(fig)
    return fig


def _bars_of_parts(ax, rows):
    """Draw the bars and return where each ends."""
    ends = np.zeros(len(rows))
    for index, part in enumerate(dict.fromkeys(part for sizes in rows.values() for part in sizes)):
        widths = np.array([sizes.get(part, 0) for sizes in rows.values()])
        look = {"color": SERIES[index % 6], "edgecolor": "white"}
        ax.barh(range(len(rows)), widths, left=ends, label=part, **look)
        ends += widths
    ax.set_yticks(range(len(rows)), rows)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    return ends


def _cut(ax, ends, right):
    """End the axis there, and write the whole length of each bar that goes on beyond it."""
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    for row, end in enumerate(ends):
        if end > right:
            ax.set_xlim(0, right)
            ax.text(right, row, f"{end:,.0f} →", ha="right", va="center", bbox=box, fontsize=12)


def tradeoff(points, xlabel, ylabel, *, whiskers) -> Figure:
    """Draw a marker for each point, its name beside it: better is up and right.

    A point is a dict with `label`, `x` and `y`, numbers or (estimate, low, high), and where it
    stands for several training runs `runs`, their (x, y) pairs, drawn as small dots. `whiskers`
    says below the figure what the intervals are.
    """
    fig, ax = _axes(xlabel, ylabel, height=6.5)
    marks = [_mark(ax, point, index) for index, point in enumerate(points)]
    runs = np.array([run for point in points for run in point.get("runs", ())]).reshape(-1, 2)
    places = np.array([mark[:2] for mark in marks])
    _note(fig, f"whiskers: {whiskers}" + ("; small dots: single runs" if len(runs) else ""))
    fig.draw_without_rendering()  # the labels are placed by their size on the page
    halo = [patheffects.withStroke(linewidth=3, foreground="white")]
    adjust_text(
        [ax.text(x, y, label, fontsize=12, path_effects=halo, zorder=6) for x, y, label in marks],
        *np.concatenate([places, runs]).T, ax=ax, expand=(1.3, 2.0), force_static=(0.3, 0.6),
        arrowprops={"arrowstyle": "-", "color": "#555555", "lw": 0.8},
    )  # fmt: skip
    return fig


def _mark(ax, point, index):
    """Draw one point of a trade-off with its runs; return the place of its label, and the label."""
    (x, xerr), (y, yerr) = _whiskers(point["x"]), _whiskers(point["y"])
    # The marker shifts with each round of colours, so that no pair comes twice.
    look = {"marker": MARKERS[(index + index // 6) % 6], "color": SERIES[index % 6]}
    ax.errorbar(x, y, yerr, xerr, **look, ms=11, mec="black", elinewidth=1, capsize=3, linestyle="")
    if point.get("runs"):
        ax.scatter(*zip(*point["runs"], strict=True), s=22, color=look["color"], alpha=0.8, lw=0)
    return x, y, point["label"]


def confusion(matrix, labels) -> Figure:
    """Draw a confusion matrix [true, predicted] with counts and the shares of each row."""
    counts = np.asarray(matrix)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    texts = [[f"{n}\n{n / max(sum(row), 1):.0%}" for n in row] for row in counts]
    fig = _grid(shares, labels, labels, texts, "share of the row", (0, 1))
    fig.axes[0].set(xlabel="predicted label", ylabel="true label")
    return fig


def heatmap(matrix, rows, columns, *, label, xlabel="", ylabel="", digits=2) -> Figure:
    """Draw a matrix of numbers, each written in its cell; NaN leaves a cell empty.

    `label` says what the colours mean, with its unit. Values of both signs get a scale around 0.
    With `digits=None` nothing is written and the rows are low, for matrices of many rows.
    """
    values = np.asarray(matrix, dtype=float)
    texts = None
    if digits is not None:
        texts = [["" if np.isnan(v) else f"{v:z.{digits}f}" for v in row] for row in values]
    largest = np.nanmax(np.abs(values))
    limits = (-largest, largest) if np.nanmin(values) < 0 else (None, None)
    fig = _grid(values, rows, columns, texts, label, limits)
    fig.axes[0].set(xlabel=xlabel, ylabel=ylabel)
    return fig


def losses(histories, *, ylabel="loss (nats per token)") -> Figure:
    """Draw losses against the training step; `histories` maps a name to (step, loss) pairs.

    The lowest point of every history whose name contains "validation" is marked.
    """
    fig, ax = _axes("training step", ylabel)
    for index, (name, history) in enumerate(histories.items()):
        steps, values = np.asarray(history, dtype=float).T
        marked = "validation" in name
        ax.plot(steps, values, color=SERIES[index % 6], marker="o" if marked else "", label=name)
        if marked:
            _lowest(ax, steps, values)
    _legend(fig)
    return fig


def token_strip(tokens, labels=None, weights=None) -> HTML:
    """Return tokens as coloured HTML: grey where masked, blue and underlined where learned.

    `labels` holds -100 for a masked token. `weights` in [0, 1], such as probabilities, shade the
    tokens instead; the number appears under the pointer.
    """
    if labels is not None:
        learned = [int(label) != -100 for label in labels]
        looks = [_LEARNED if yes else _MASKED for yes in learned]
        counts = f"{sum(learned)} of {len(learned)} tokens are learned (blue); grey is masked"
    else:
        looks = [_shade(weight) for weight in weights]
        counts = "the darker, the nearer to 1"
    spans = "".join(_token(*pair) for pair in zip(tokens, looks, strict=True))
    return HTML(f'<div style="{_STRIP}">{spans}</div><small>{counts}</small>')


_STRIP = (
    "font-family: monospace; font-size: max(15px, 0.75em); line-height: 2; white-space: pre-wrap"
)
_MASKED = ("background: #d4d4d4; color: #333333", "masked")
_LEARNED = ("background: #0072b2; color: #ffffff; text-decoration: underline", "learned")


def _shade(weight):
    white, blue = np.array([255, 255, 255]), np.array([0, 114, 178])
    red, green, blue = (white + (blue - white) * float(weight)).astype(int)
    text = "#ffffff" if weight > 0.93 else "#000000"
    return f"background: rgb({red}, {green}, {blue}); color: {text}", f"{weight:.3f}"


def _token(token, look):
    css, title = look
    text = html.escape(token).replace("\n", "⏎\n")
    return f'<span style="{css}; margin: 1px; padding: 2px 0" title="{title}">{text}</span>'


@functools.cache
def _korean_font() -> str | None:
    """Return a font with Hangul that this machine has, or None."""
    known = set(font_manager.get_font_names())
    return next((name for name in KOREAN if name in known), None)


_language = contextvars.ContextVar("language", default=None)


@contextlib.contextmanager
def in_english():
    """Draw figures in English meanwhile, for a document whose text is English in any edition."""
    token = _language.set("en")
    try:
        yield
    finally:
        _language.reset(token)


def _catalogue() -> dict[str, str]:
    """Return the phrases in the reader's language, none without a font: it would draw boxes."""
    language = _language.get() or settings.language()
    return translation.phrases(language) if language != "en" and _korean_font() else {}


def wording(text: str) -> str:
    """Return a text of a figure in the reader's language, where it has one and a font for it."""
    return _catalogue().get(text, text)


def _translate(fig) -> None:
    """Put the texts of a figure that the catalogue has into the reader's language."""
    if not (known := _catalogue()):
        return
    for axis in (axis for ax in fig.axes for axis in (ax.xaxis, ax.yaxis)):
        labels = [label.get_text() for label in axis.get_ticklabels()]
        if not known.keys().isdisjoint(labels):  # a text set on the label itself would not last
            axis.set_ticks(axis.get_ticklocs(), [known.get(text, text) for text in labels])
    for text in fig.findobj(Text):
        text.set_text(known.get(text.get_text(), text.get_text()))
        text.set_fontfamily([*text.get_fontfamily(), _korean_font()])


def _image(fig):
    _translate(fig)
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png")
    plt.close(fig)
    # A palette of 128 colours looks the same and is a third of the size in the notebook.
    return Image.open(buffer).convert("RGB").quantize(128, dither=Image.Dither.NONE)


def _axes(xlabel, ylabel, width=8, height=4.5):
    # Not through pyplot: it would keep every figure, and show it a second time in a notebook.
    style()
    fig = Figure(figsize=(width, height))
    ax = fig.add_subplot()
    ax.set(xlabel=xlabel, ylabel=ylabel)
    return fig, ax


def _legend(fig):
    fig.legend(loc="outside upper left", ncols=3)


def _note(fig, text):
    """Write below a figure what its whiskers or its band are."""
    fig.supxlabel(text, x=0.99, ha="right", fontsize=12, color="#555555")


def _line(ax, rows, x, columns, label, index):
    low, y, high = columns
    look = {"color": SERIES[index % 6], "marker": MARKERS[index % 6]}
    table = rows.groupby(x)[y].agg(low="min", y="mean", high="max")
    if low and high:
        table = rows.set_index(x)[[low, y, high]].set_axis(["low", "y", "high"], axis=1)
    elif len(rows) > len(table):
        ax.scatter(rows[x], rows[y], s=25, alpha=0.6, **look)
    ax.fill_between(table.index, table["low"], table["high"], color=look["color"], alpha=0.2, lw=0)
    ax.plot(table.index, table["y"], label=label, **look)


def _lowest(ax, steps, values):
    best = values.argmin()
    label = wording("lowest: {loss:.2f} at step {step:.0f}")
    label = label.format(loss=values[best], step=steps[best])
    ax.plot(steps[best], values[best], "*", ms=18, color=OKABE_ITO["vermillion"], label=label)


def _baseline(ax, value, label):
    estimate, low, high = _with_ends(value)
    color = OKABE_ITO["black"]
    ax.axhspan(low, high, color=color, alpha=0.1, lw=0)
    ax.axhline(estimate, color=color, linestyle="--", label=label)


def _own_dots(ax, dots):
    look = {"fmt": "*", "color": OKABE_ITO["vermillion"], "mec": "black", "ms": 20, "capsize": 5}
    for index, (place, value) in enumerate(dots):
        estimate, ends = _whiskers(value)
        label = "_" if index else "your run"
        ax.errorbar(place, estimate, ends, zorder=5, label=label, **look)


def _whiskers(value):
    """Return a value and the lengths of its whiskers, as `errorbar` wants them."""
    estimate, low, high = _with_ends(value)
    return estimate, [[abs(estimate - low)], [abs(high - estimate)]]


def _with_ends(value):
    return tuple(value) if np.ndim(value) else (value, value, value)


def _ticks(ax, places, log):
    if log and min(places) > 0:
        ax.set_xscale("log")
    elif log:
        ax.set_xscale("symlog", linthresh=1, linscale=0.4)
    ax.set_xticks(places, [f"{place:g}" for place in places])
    ax.xaxis.set_minor_locator(NullLocator())


def _grid(values, rows, columns, texts, label, limits):
    width, height = 3.5 + 1.3 * len(columns), 2 + (0.9 if texts else 0.16) * len(rows)
    fig, ax = _axes("", "", width, height)
    low, high = limits
    signed = low is not None and low < 0
    colors, aspect = "PuOr" if signed else "Blues", "equal" if texts else "auto"
    image = ax.imshow(values, cmap=colors, vmin=low, vmax=high, aspect=aspect)
    ax.set_xticks(range(len(columns)), columns)
    ax.set_yticks(range(len(rows)), rows)
    ax.grid(False)
    fig.colorbar(image, label=label)
    if texts:
        _write_cells(ax, image, values, texts)
    return fig


def _write_cells(ax, image, values, texts):
    for (row, column), value in np.ndenumerate(values):
        dark = np.dot(image.cmap(image.norm(value))[:3], (0.299, 0.587, 0.114)) < 0.5
        color = "white" if dark else "black"
        ax.text(column, row, texts[row][column], ha="center", va="center", color=color)
