"""Figures: labelled, in the palette, with uncertainty and alternative text, without a screen."""

import base64
import itertools
import re

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib import colors
from matplotlib.collections import PathCollection

from workbook import plots, training
from workbook.checks import report
from workbook.errors import WorkbookError
from workbook.metrics import Interval

ROWS = [
    {"n": n, "seed": seed, "acc": 0.7 + n / 5000 + seed / 100, "domain": domain}
    for n in (50, 100, 500)
    for seed in range(3)
    for domain in ("movies", "tweets")
]
ALT = "Accuracy rises with the number of training reviews."


@pytest.fixture(autouse=True)
def no_screen():
    with mpl.rc_context(), mpl.rc_context({"backend": "agg"}):
        yield


@pytest.fixture
def outputs(monkeypatch):
    """What is displayed: pairs of data and metadata."""
    shown = []

    def show(data, metadata, raw):
        shown.append((data, metadata))

    monkeypatch.setattr(plots, "display", show)
    return shown


def figures():
    bands = [Interval(0.8, 0.7, 0.85), Interval(0.9, 0.88, 0.93)]
    history = {"training": [(1, 2.0), (2, 1.0)], "validation": [(1, 2.1), (2, 1.5), (3, 1.8)]}
    names = ["negative", "positive"]
    options = {"xlabel": "shots", "ylabel": "accuracy"}
    return {
        "curve": plots.curve(ROWS, "n", "acc", series="domain", dot=[(100, 0.8)], log=True),
        "zero": plots.curve(ROWS, "seed", "acc", baseline=bands[0], log=True, **options),
        "bars": plots.bars(
            [0.8, 0.9],
            bands,
            ["prompt", "tuned"],
            xlabel="accuracy",
            whiskers="95 % interval",
            reference=0,
        ),
        "confusion": plots.confusion([[8, 2], [1, 9]], names),
        "tradeoff": plots.tradeoff(
            [{"label": "a", "x": 0.8, "y": bands[0]}], "new", "kept", whiskers="none"
        ),
        "heatmap": plots.heatmap([[1, -2], [0, np.nan]], names, names, label="change", xlabel="to"),
        "losses": plots.losses(history),
        "stacked": plots.stacked({"full": {"weights": 1}}, xlabel="GB", limits={"24 GB": 24}),
    }


@pytest.mark.parametrize(
    "name", ["curve", "zero", "bars", "confusion", "losses", "tradeoff", "stacked"]
)
def test_axes_are_labelled_and_colours_are_those_of_the_palette(name):
    ax = figures()[name].axes[0]
    assert ax.get_xlabel() and (ax.get_ylabel() or ax.get_yticklabels())
    palette = {colors.to_hex(color) for color in (*plots.OKABE_ITO.values(), *plots.SERIES)}
    drawn = {colors.to_hex(line.get_color()) for line in ax.get_lines()}
    assert drawn <= palette
    assert ax.xaxis.label.get_size() >= 13
    assert all(text.get_size() >= 13 for text in ax.get_xticklabels())


def test_curve_draws_the_band_the_seeds_and_the_readers_own_run():
    fig = plots.curve(ROWS, "n", "acc", dot=[(100, Interval(0.8, 0.7, 0.9))], xlabel="reviews")
    band, dots = fig.axes[0].collections[1], fig.axes[0].collections[0]
    assert len(dots.get_offsets()) == len(ROWS)
    assert band.get_datalim(fig.axes[0].transData).height == pytest.approx(0.11)
    assert legend(fig) == ["recorded", "your run"]
    assert fig.axes[0].get_xlabel() == "reviews"


def test_curve_takes_given_bands_series_and_a_baseline():
    rows = [{"n": n, "acc": 0.8, "low": 0.7, "high": 0.9, "kind": k} for n in (1, 2) for k in "ab"]
    fig = plots.curve(rows, "n", "acc", low="low", high="high", series="kind", baseline=0.5)
    assert legend(fig) == ["a", "b", "zero-shot"]
    lines = fig.axes[0].get_lines()
    assert lines[0].get_color() != lines[1].get_color()
    assert lines[0].get_marker() != lines[1].get_marker()
    shots = [text.get_text() for text in fig.axes[0].get_xticklabels()]
    assert shots == ["1", "2"]


def test_bars_draw_both_ends_of_the_interval_and_the_first_label_on_top():
    fig = plots.bars(
        [0.8, 0.9],
        [(0.7, 0.85), Interval(0.9, 0.8, 0.95)],
        ["a", "b"],
        xlabel="accuracy",
        whiskers="95 % interval",
    )
    segments = fig.axes[0].collections[0].get_segments()
    np.testing.assert_allclose(segments[0][:, 0], [0.7, 0.85])
    np.testing.assert_allclose(segments[1][:, 0], [0.8, 0.95])
    assert fig.axes[0].yaxis_inverted()
    assert fig.get_supxlabel() == "whiskers: 95 % interval"


def test_stacked_bars_are_as_long_as_their_parts_and_are_cut_where_they_dwarf_the_limit():
    rows = {"full": {"weights": 1, "gradients": 2}, "LoRA": {"weights": 1, "activations": 0.5}}
    fig = plots.stacked(rows, xlabel="GB", marks=[3.1, 1.4], limits={"a device": 2})
    ax = fig.axes[0]
    ends = [max(bar.get_x() + bar.get_width() for part in ax.containers for bar in [part[row]])
            for row in (0, 1)]  # fmt: skip
    assert ends == [3, 1.5] and ax.yaxis_inverted()
    assert legend(fig) == ["measured", "a device", "weights", "gradients", "activations"]
    assert not ax.texts and ax.get_xlim()[1] >= 3.1
    rows["full"]["weights"] = 1000
    cut = plots.stacked(rows, xlabel="GB", limits={"a device": 2}).axes[0]
    assert [text.get_text() for text in cut.texts] == ["1,002 →"]
    assert cut.get_xlim()[1] == pytest.approx(3.2)


def test_confusion_writes_counts_and_shares_of_the_row():
    texts = [text.get_text() for text in plots.confusion([[8, 2], [0, 0]], "ab").axes[0].texts]
    assert texts == ["8\n80%", "2\n20%", "0\n0%", "0\n0%"]


def test_heatmap_of_both_signs_has_its_scale_around_zero():
    ax = figures()["heatmap"].axes[0]
    assert ax.images[0].get_clim() == (-2, 2)
    assert [text.get_text() for text in ax.texts] == ["1.00", "-2.00", "0.00", ""]


def test_a_heatmap_of_many_rows_is_low_and_has_no_text():
    fig = plots.heatmap(np.eye(30), range(30), "ab" * 15, label="change", digits=None)
    assert not fig.axes[0].texts
    assert fig.get_figheight() < 8


def test_tradeoff_names_each_point_and_draws_both_intervals():
    points = [
        {"label": f"method {i}", "x": Interval(0.8, 0.7, 0.85), "y": 0.1 * i} for i in range(13)
    ]
    points[0]["runs"] = [(0.79, 0.01), (0.81, -0.01)]
    fig = plots.tradeoff(points, "sentiment", "retained", whiskers="95 % interval")
    named = [text for text in fig.axes[0].texts if text.get_text()]
    assert [text.get_text() for text in named] == [point["label"] for point in points]
    assert fig.get_supxlabel() == "whiskers: 95 % interval; small dots: single runs"
    scattered = [c for c in fig.axes[0].collections if isinstance(c, PathCollection)]
    np.testing.assert_allclose(scattered[0].get_offsets(), points[0]["runs"])
    marks = [container.lines[0] for container in fig.axes[0].containers]
    assert len({(mark.get_color(), mark.get_marker()) for mark in marks}) == len(points)
    horizontal, vertical = fig.axes[0].containers[1].lines[2]
    np.testing.assert_allclose(horizontal.get_segments()[0], [[0.7, 0.1], [0.85, 0.1]])
    np.testing.assert_allclose(vertical.get_segments()[0], [[0.8, 0.1], [0.8, 0.1]])


def test_losses_mark_the_lowest_validation_loss():
    assert "lowest: 1.50 at step 2" in legend(figures()["losses"])


def test_show_gives_the_alternative_text_where_each_reader_looks(outputs):
    plots.show(figures()["losses"], ALT + ' "quoted"')
    ((data, metadata),) = outputs
    assert metadata["image/png"] == {"alt": ALT + ' "quoted"', "width": 880, "height": 495}
    assert data["text/plain"].startswith(ALT)
    assert f'alt="{ALT} &quot;quoted&quot;"' in data["text/html"]
    picture = base64.b64decode(data["image/png"])
    assert picture.startswith(b"\x89PNG") and len(picture) < 60_000
    assert data["image/png"] in data["text/html"]


def test_show_closes_the_figure_and_wants_a_text(outputs):
    fig = plt.figure()
    plots.show(fig, ALT)
    assert not plt.get_fignums()
    with pytest.raises(WorkbookError, match="too short"):
        plots.show(fig, "A curve.")


def test_token_strip_tells_masked_from_learned_and_escapes():
    strip = plots.token_strip(["<b>", " yes", "\n"], labels=[-100, np.int64(7), 2]).data
    assert "<b>" not in strip and "&lt;b&gt;" in strip and "⏎" in strip
    titles = re.findall(r'title="(\w+)"', strip)
    assert titles == ["masked", "learned", "learned"]
    assert "2 of 3 tokens" in strip


def test_token_colours_are_legible_in_any_theme():
    weights = np.linspace(0, 1, 101)
    shaded = plots.token_strip(["x"] * len(weights), weights=weights).data
    masks = plots.token_strip(["x", "y"], labels=[-100, 1]).data
    looks = re.findall(r"background: ([^;]+); color: (#\w+)", shaded + masks)
    assert len(looks) == len(weights) + 2
    for background, text in looks:
        assert contrast(rgb(background), rgb(text)) >= 4.5, (background, text)


def legend(fig):
    return [text.get_text() for text in fig.legends[0].get_texts()]


def rgb(color):
    if color.startswith("#"):
        return colors.to_rgb(color)
    return [int(part) / 255 for part in re.findall(r"\d+", color)]


def contrast(*pair):
    """Return the contrast ratio of WCAG 2."""
    linear = [np.where(np.array(c) <= 0.04045, np.array(c) / 12.92,
                       ((np.array(c) + 0.055) / 1.055) ** 2.4) for c in pair]  # fmt: skip
    dark, light = sorted(np.dot([0.2126, 0.7152, 0.0722], c) for c in linear)
    return (light + 0.05) / (dark + 0.05)


def test_live_losses_end_in_a_figure_with_its_alternative_text(monkeypatch):
    shown = []

    class Handle:
        def update(self, data, metadata, raw):
            shown.append((data, metadata))

    monkeypatch.setattr(plots, "display", lambda *args, **options: Handle())
    steps = [{"step": i, "loss": 1 / i} for i in range(1, 5)]
    rows = [{"steps": 2, "validation_loss": 0.5}, {"steps": 2, "validation_loss": 0.4}]
    history = training.History(steps=steps, epochs=rows)
    live = plots.LiveLosses()
    live(history)
    live(history)  # less than two seconds later: not drawn again
    live.finish(history, alt="Training and validation loss fall over four steps.")
    assert [metadata["image/png"]["alt"] for _, metadata in shown] == [
        "Training loss after 4 steps, still running.",
        "Training and validation loss fall over four steps.",
    ]


# Machado, Oliveira and Fernandes (2009): what protanopia, deuteranopia and tritanopia see.
SEEN = {
    "all": np.eye(3),
    "no red": [
        [0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "no green": [
        [0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "no blue": [
        [1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}  # fmt: skip
XYZ = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
USED = [*plots.SERIES, plots.OKABE_ITO["vermillion"]]  # the last marks one's own run


def linear(color):
    rgb = np.array(colors.to_rgb(color))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(seen):
    """Return a colour as L*, a*, b*: distances there are about those that eyes see."""
    t = np.array(XYZ) @ np.clip(seen, 0, 1) / np.sum(XYZ, axis=1)
    x, y, z = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("color", USED)
def test_colours_stand_out_from_the_page(color):
    assert contrast(*map(colors.to_rgb, (color, "white"))) >= 3


@pytest.mark.parametrize("color", report.COLORS.values())
def test_the_edge_of_a_check_stands_out_in_light_and_dark_themes(color):
    assert all(contrast(*map(colors.to_rgb, (color, page))) >= 3 for page in ("white", "#111111"))


@pytest.mark.parametrize("seen", SEEN)
def test_colours_differ_to_all_eyes(seen):
    places = [lab(SEEN[seen] @ linear(color)) for color in USED]
    apart = [np.linalg.norm(a - b) for a, b in itertools.combinations(places, 2)]
    assert min(apart) > 15
