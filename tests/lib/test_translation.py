"""The Korean edition says what the English one says, in the glossary's words, never an old one."""

import ast
import functools
import re
from collections import Counter

import pytest
import yaml
from bs4 import BeautifulSoup
from matplotlib.text import Text
from nbformat.v4 import new_output
from typer.testing import CliRunner

from workbook import (
    checks,
    cli,
    course,
    glossary,
    measurements,
    plots,
    settings,
    translation,
    workspace,
)
from workbook.authoring import build, html, readme, teaching
from workbook.capstone.report import Report
from workbook.checks import quizzes, record, report
from workbook.errors import WorkbookError

SOURCES = {source.stem[:2]: source for source in build.sources()}
KOREAN = [source for source in build.sources() if translation.path(source, "ko").exists()]
PAGES = [*(source.stem[:2] for source in KOREAN), cli.README]
NUMBER_WORDS = {
    **{word: str(number) for number, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve".split()
    )},
    "fourteen": "14", "sixteen": "16", "twenty": "20", "thirty": "30",
    "forty": "40", "fifty": "50", "sixty": "60",
    "half an hour": "30", "half a minute": "30", "a minute": "1",
    "hundredth": "100", "thousand": "1000",
    "a third": "3 1", "a quarter": "4 1", "a tenth": "10 1",
    "a gigabyte": "1", "half a gigabyte": "0.5", "seven billion": "70",
}  # fmt: skip
BILLIONS = re.compile(r"(\d+)(?= (?:or \d+ )?billion)")  # Korean counts in hundred millions
MILLIONS = re.compile(r"\b(\d)(\d\d)(?= million)")  # and in ten thousands
CODE = re.compile(r"^```.*?^```|`[^`]+`", re.DOTALL | re.MULTILINE)
COMMENT = re.compile(r" # .*")
PARTICLE = re.compile(r"(?:`[^`]+`|\{\w[^{}]*\})(?:은|는|이|가|을|를|과|와|으로|로)(?![가-힣])")


def code_in(text: str) -> list[str]:
    """Return the code of a text; the comments in its blocks may be translated."""
    return [COMMENT.sub(" #", c) if c.startswith("```") else c for c in CODE.findall(text)]


KEPT = {
    "code": code_in,
    "values": re.compile(r"(?<!\{)\{\w[^{}]*\}(?!\})").findall,
    "formulas": re.compile(r"\$[^$]+\$").findall,
    "links": re.compile(r"""(?:\]\(|(?:src|href)=")([^)\s"#]*)""").findall,
    "tags": re.compile(r"</?[a-z]+\b").findall,
    "headings": re.compile(r"^#+(?= )", re.MULTILINE).findall,
    "rows": re.compile(r"^(\|)", re.MULTILINE).findall,
    "items": re.compile(r"^ *(-|\d+\.)(?= )", re.MULTILINE).findall,
}


# ------------------------------------------------------------------------ what a translation keeps


def faults(english: str, korean: str, free=()) -> list[str]:
    """Return what a translation has lost, added, or calls by another name than the glossary."""
    return [*_changed(english, korean), *_numbers(english, korean), *_terms(english, korean, free)]


def _changed(english, korean):
    for name, find in KEPT.items():
        old, new = (Counter(find(text)) for text in (english, korean))
        if old != new:
            yield f"{name}: {sorted((old - new) | (new - old))}"
    shown = BeautifulSoup(html.markdown(korean, html.Renderer(escape=False)), "html.parser")
    for code in shown.find_all("code"):
        code.extract()
    if found := PARTICLE.findall(korean):
        yield f"particles: {found} after code or a value: put a word between, its sound is unclear"
    if "*" in shown.get_text():
        yield "emphasis: a * is shown; put a space or a bracket elsewhere"


def _numbers(english, korean):
    english = BILLIONS.sub(r"\g<1>0", " ".join(english.split()))
    english = MILLIONS.sub(r"\1 \g<2>00", english)
    old, new = (Counter(_digits(CODE.sub("", text))) for text in (english, korean))
    spelled = Counter(
        number for words, digits in NUMBER_WORDS.items() for number in digits.split()
        for _ in re.findall(rf"\b{words}", english, re.IGNORECASE)
    )  # fmt: skip
    if old - new or new - old - spelled:
        yield f"numbers: lost {sorted(old - new)}, added {sorted(new - old - spelled)}"


def _digits(text):
    return re.findall(r"\d+(?:[.,]\d+)*", text)


def _terms(english, korean, free):
    pattern, terms = english_terms()
    english, korean = (" ".join(CODE.sub("", text).split()) for text in (english, korean))
    for term in {terms[name.lower()] for name in pattern.findall(english)}:
        named = any(name in korean for name in glossary.names(term.korean))
        if term.english not in free and not named:
            yield f"terms: {term.english} is {term.korean}"


@functools.cache
def english_terms():
    return glossary.finder(glossary.load("en"), "en")


@pytest.mark.parametrize(
    ("english", "korean", "fault"),
    [
        ("It rose by 0.5.", "올랐습니다.", "numbers: lost ['0.5']"),
        ("It rose by .05 in 3 runs.", "실행 3번에서 .5 올랐습니다.", "numbers: lost ['05']"),
        ("It rose.", "2배로 올랐습니다.", "numbers: lost [], added ['2']"),
        (
            "It has 7 billion weights.",
            "가중치가 7억 개입니다.",
            "numbers: lost ['70'], added ['7']",
        ),
        ("It has 135 million weights.", "가중치가 135만 개입니다.", "numbers: lost ['1', '3500']"),
        ("Call `fit`.", "`맞추기`를 부릅니다.", "code"),
        ("```\nmake lab  # opens\n```", "```\nmake run  # 엽니다\n```", "code"),
        ("```\nmake lab  # opens\n```", "```\nmake lab\n```", "code"),
        ("See [01](01_a.ipynb).", "[01](02_b.ipynb) 참고.", "links"),
        ("Here is $x^2$.", "$x^3$입니다.", "formulas"),
        ("<details><summary>Hint 1</summary>A</details>", "<details>힌트 1 A</details>", "tags"),
        ("## Part", "# 부분", "headings"),
        ("| a |\n|---|\n| b |", "| 가 |\n|---|", "rows"),
        ("- a\n- b", "- 가와 나", "items"),
        ("It is **so (very)** good.", "**참(매우)**은 좋습니다.", "emphasis"),
        ("Use `fit`.", "`fit`을 씁니다.", "particles"),
        ("You took {name!r}.", "{name!r}을 골랐어요.", "particles"),
        ("You took {rows}.", "골랐어요.", "values"),
        ("A soft prompt learns.", "부드러운 프롬프트를 배웁니다.", "terms: soft prompt"),
        ("All tokens.", "모든 낱말.", "terms: token"),
    ],
)
def test_what_is_lost_is_found(english, korean, fault):
    assert any(found.startswith(fault) for found in faults(english, korean))


@pytest.mark.parametrize(
    ("english", "korean"),
    [
        ("It takes one minute, or half an hour.", "1분이나 30분이 걸립니다."),
        ("It takes three minutes.", "세 분이 걸립니다."),
        ("A third of 7 or 70 billion.", "70억이나 700억의 3분의 1입니다."),
        ("All 135 million of them.", "1억 3500만 개 모두입니다."),
        ("```\nmake lab  # opens\n```", "```\nmake lab  # 엽니다\n```"),
        ("Soft prompts, `token`.", "소프트 프롬프트, `token`."),
        ("[Next](02_b.ipynb#Part) and **5 %**.", "[다음](02_b.ipynb#부분), **5 %**."),
    ],
)
def test_what_is_kept_passes(english, korean):
    assert faults(english, korean) == []


def test_a_term_in_another_sense_is_free():
    assert faults("Follow instructions.", "지시를 따릅니다.", free=["instruction"]) == []


# ----------------------------------------------------------------------------- the Korean of now


def pairs(texts, file):
    return translation.pair(texts, translation.records(file))


def state(text, record) -> str:
    """Return what a reader of the test needs: nothing, or what to do with a record."""
    if record is None:
        return f"missing: {translation.digest(text)} {text[:60]!r}"
    if text is None:
        return f"orphaned: {record.english} {record.korean[:40]!r}"
    stale = translation.is_stale(text, record)
    return f"stale: {record.english} is {translation.digest(text)} now" if stale else ""


def page_pairs(page):
    return pairs(*cli.to_translate(page, checks=False, language="ko"))


@pytest.mark.parametrize("page", PAGES)
def test_every_text_of_a_page_has_a_fresh_record(page):
    advice = f"`workbook translate {page}` prints what is to be translated"
    assert not list(filter(None, (state(*pair) for pair in page_pairs(page)))), advice


@pytest.mark.parametrize("page", PAGES)
def test_records_of_a_page_lose_nothing(page):
    found = page_pairs(page)
    wrong = {r.korean[:40]: f for t, r in found if t and r and (f := faults(t, r.korean, r.free))}
    assert wrong == {}


def without_english(text: str, chapter: str) -> list[str]:
    """Return the terms of a chapter whose first place in its text lacks the English in brackets."""
    text, found = " ".join(text.split()), []
    for term in glossary.load("en"):
        places = [text.find(name) for name in glossary.names(term.korean) if name in text]
        if term.chapter == chapter and places:
            if f"({glossary.names(term.english)[0]}" not in text[min(places) :][:80]:
                found.append(term.english)
    return found


def test_a_term_without_its_english_is_found():
    text = "문맥 내 학습(in-context learning)은 프롬프트를 씁니다. 문맥 내 학습은 좋습니다."
    assert without_english(text, "01") == ["prompt"]
    assert without_english(text, "02") == []


@pytest.mark.parametrize("source", KOREAN, ids=lambda path: path.stem)
def test_a_chapter_gives_the_english_of_its_own_terms_at_first_use(source):
    kept = translation.records(translation.path(source, "ko"))
    assert without_english("\n".join(r.korean for r in kept), source.stem[:2]) == []


def test_every_meaning_of_the_glossary_is_translated():
    rows = yaml.safe_load((settings.repo_root() / "data" / "glossary.yaml").read_text("utf-8"))
    found = pairs([row["meaning"] for row in rows], glossary.file("ko"))
    assert not list(filter(None, (state(*pair) for pair in found)))
    for text, kept in found:
        assert [f for f in faults(text, kept.korean) if f.startswith(("numbers", "code"))] == []
        assert re.search(r"[가-힣]", kept.korean) and not kept.korean.endswith("다.")


def test_phrases_are_those_that_the_pages_use():
    library = settings.repo_root() / "lib" / "workbook"
    trees = [ast.parse(path.read_text("utf-8")) for path in library.rglob("*.py")]
    pages = [ast.parse(path.read_text("utf-8")) for path in build.sources()]  # their figures
    templates = "".join(p.read_text("utf-8") for p in (library / "authoring").rglob("*.j2"))
    said = set(re.findall(r'\bsay\(\s*"([^"]+)"', templates)).union(*map(spoken, trees))
    used = said.union(*map(words, [*trees, *pages]))
    chapters = {words for chapter in course.CHAPTERS for words in chapter[1:]} | headlines()
    phrases = translation.phrases("ko").keys()
    assert phrases <= used | chapters, "nothing says these any more"
    assert said | chapters <= phrases


def headlines() -> set[str]:
    """Return what the notebooks found, as the catalogue has it, without the numbers."""
    found = [chapter.measured for chapter in course.CHAPTERS if chapter.notebook]
    return {translation.numbered(measurements.headline(kept))[0] for kept in found if kept}


def words(tree) -> set[str]:
    """Return the strings and the names in Python code: parts of a figure are fields of a tuple."""
    found = [getattr(node, "value", getattr(node, "id", None)) for node in ast.walk(tree)]
    return {text for text in found if isinstance(text, str)}


def spoken(tree) -> set[str]:
    """Return the phrases that Python code hands to `say`."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args]
    named = [c for c in calls if "say" in (getattr(c.func, "id", ""), getattr(c.func, "attr", ""))]
    return {c.args[0].value for c in named if isinstance(c.args[0], ast.Constant)}


def test_phrases_keep_their_values():
    for phrase, korean in translation.phrases("ko").items():
        wrong = [f for f in faults(phrase, korean) if f.startswith(("values", "code", "particles"))]
        assert wrong == [], phrase


def test_a_measured_sentence_keeps_its_numbers_where_they_belong(monkeypatch):
    known = {"{0}% of L2-SP, {1} [{2}, {3}].": "L2-SP: {1} [{2}, {3}], {0}%."}
    monkeypatch.setattr(translation, "phrases", lambda language: known)
    english = "7.5% of L2-SP, -0.13 [-0.20, 16]."
    assert translation.say_measured(english, "ko") == "L2-SP: -0.13 [-0.20, 16], 7.5%."
    assert translation.say_measured(english, "en") == english
    assert translation.say_measured("Another 7.", "ko") == "Another 7."


# ------------------------------------------------------------------------- checks and quizzes


def told_pairs(number):
    return pairs(teaching.texts(number), report.records_dir("ko") / f"{number}.yaml")


@pytest.mark.parametrize("number", SOURCES)
def test_what_checks_and_quiz_say_has_a_fresh_record(number):
    is_due = SOURCES[number] in KOREAN
    found = [state(*pair) for pair in told_pairs(number) if is_due or pair[1] is not None]
    assert not list(filter(None, found)), f"`workbook translate {number} --checks` prints them"


def test_records_of_checks_belong_to_a_notebook():
    assert {path.stem for path in report.records_dir("ko").glob("*")} <= SOURCES.keys()


@pytest.mark.parametrize("number", SOURCES)
def test_records_of_checks_and_quiz_lose_nothing(number):
    wrong = {r.korean[:40]: f for t, r in told_pairs(number) if t and r
             and (f := faults(t, r.korean, r.free))}  # fmt: skip
    assert wrong == {}


@pytest.mark.parametrize("source", KOREAN, ids=lambda path: path.stem)
def test_messages_of_a_korean_notebook_can_be_looked_up(source):
    """An f-string is another text each time: the values go by name instead."""
    path = teaching.CHECKS / f"nb{source.stem[:2]}.py"
    tree = ast.parse(path.read_text("utf-8") if path.exists() else "")
    calls = [c for c in ast.walk(tree) if getattr(getattr(c, "func", 0), "id", "") == "expect"]
    assert [ast.unparse(c) for c in calls if not isinstance(c.args[1], ast.Constant)] == []


PLAIN, SPOKEN = re.compile(r"니다\."), re.compile(r"요\.")


@pytest.mark.parametrize("source", KOREAN, ids=lambda path: path.stem)
def test_pages_and_quizzes_are_plain_and_hints_and_checks_are_spoken(source):
    number = source.stem[:2]
    page = [r.korean for r in translation.records(translation.path(source, "ko"))]
    hints = [text for text in page if text.startswith("<details><summary>힌트")]
    titles = {title for title, _ in teaching.mistakes().values()}
    messages = {m for _, found in teaching.mistakes().values() for m in found}
    told = [(text, r.korean) for text, r in told_pairs(number) if text not in titles]
    spoken_ones = [*hints, *(korean for text, korean in told if text in messages)]
    plain_ones = [text for text in page if text not in hints]
    plain_ones += [korean for text, korean in told if text not in messages]
    assert [text for text in spoken_ones if PLAIN.search(text)] == []
    assert [text for text in plain_ones if SPOKEN.search(text)] == []


def test_the_readme_is_plain():
    kept = translation.records(readme.records_file("ko"))
    assert [r.korean for r in kept if SPOKEN.search(r.korean)] == []


@pytest.fixture
def in_korean(monkeypatch):
    monkeypatch.setenv("WORKBOOK_LANGUAGE", "ko")


@pytest.fixture
def shown(monkeypatch):
    found = []
    for module in (report, quizzes, record):
        monkeypatch.setattr(module, "display", lambda data, raw: found.append(data["text/plain"]))
    return found


def test_a_check_speaks_korean_whatever_the_answer(in_korean, shown):
    def wrong(frozen, learning, precision):
        return 4 * (frozen + learning)

    def broken(frozen, learning, precision):
        return learning / 0

    def empty(frozen, learning, precision):
        len([frozen])

    def waiting(frozen, learning, precision): ...

    for answer in (wrong, broken, empty, waiting, ..., lambda *_: "much"):
        assert not checks.nb11.check_tuning_bytes(answer)
    for text in shown:
        head, message = text.split("\n", 1)
        assert "연습 문제 11.1" in head and "Exercise" not in head
        assert re.search(r"요\.|오류가 난 줄: ", message) and "the" not in message.split()


def test_values_stand_in_the_korean_of_a_check(in_korean, shown):
    checks.nb11.check_choose(lambda plan, wanted, devices: ("recomputing", 7, 3))
    assert "7" in shown[0] and re.search("[가-힣]", shown[0].splitlines()[1])


def test_a_notebook_without_korean_checks_speaks_english(in_korean, shown):
    checks.nb03.check_cross_entropy(lambda logits, target: -1.0)
    assert "The loss is negative" in shown[0] and "연습 문제 3.1" in shown[0]


def test_a_quiz_is_korean_or_english_with_the_same_answers(in_korean, shown, capsys):
    checks.quiz("11")
    checks.quiz("11", " ".join("a" * len(checks.questions("11"))))
    assert f"{len(checks.questions('11'))}문제 가운데" in capsys.readouterr().out
    assert (
        re.search(r"^1\. .*[가-힣]", shown[0])
        and 'lang="ko"' in quizzes.rendered("11")["text/html"]
    )
    assert quizzes.rendered("11", "en")["text/plain"].startswith("1. All weights of a 7B")
    assert checks.questions("03")[0].text in quizzes.rendered("03")["text/plain"]
    with pytest.raises(WorkbookError, match="모두 답하세요"):
        checks.quiz("11", "a")


def test_progress_and_its_record_are_korean(in_korean, shown, tmp_path, capsys):
    report._remember(report.Result("11.1", "passed", ""))
    report.remember_quiz("11", 4, 6)
    checks.table()
    assert "11 규모 키우기  1/5  4/6  6/39" in shown[0]
    checks.yours(len, max)
    assert "이 셀은 라이브러리의 `max` 함수" in capsys.readouterr().out
    text = checks.write_record("김", tmp_path / "completion.html").read_text("utf-8")
    assert '<html lang="ko">' in text and "<b>김</b> 님이" in text and "passed" not in text


def test_the_quiz_of_the_korean_edition_is_korean():
    made = build.with_outputs(SOURCES["11"], "ko")
    [quiz] = [cell for cell in made.cells if cell.source.startswith("checks.quiz(")]
    assert quiz.outputs[0].data == quizzes.rendered("11", "ko")


# ----------------------------------------------------------------------------- the figures


def drawn(monkeypatch, font):
    """Return the texts of a figure after it was made into a picture, with or without a font."""
    monkeypatch.setattr(plots, "_korean_font", lambda: font)
    parts = {"full, fp32": {"weights": 1.0, "other": 1.0}, "mine": {"weights": 2.0}}
    figure = plots.stacked(parts, xlabel="GB at the fullest moment (bars: planned)")
    plots.as_html(figure, alt="Two bars of two parts each.")
    return {text.get_text() for text in figure.findobj(Text)}


@pytest.mark.filterwarnings("ignore:Glyph")  # this font has no Hangul, and any may be missing here
def test_a_figure_is_korean_where_there_is_a_font(in_korean, monkeypatch):
    phrases = translation.phrases("ko")
    found = drawn(monkeypatch, "DejaVu Sans")
    keys = ["full, fp32", "weights", "GB at the fullest moment (bars: planned)"]
    assert {"other", "mine", *(phrases[key] for key in keys)} <= found and not found & {*keys}


def test_the_map_is_korean_where_there_is_a_font(in_korean, monkeypatch):
    for font, title in (("DejaVu Sans", "여기서 시작"), (None, "Start here")):
        monkeypatch.setattr(plots, "_korean_font", lambda font=font: font)
        texts = [text.get_text().split("\n", 1)[-1] for text in course.draw_map().findobj(Text)]
        assert title in texts


@pytest.mark.filterwarnings("ignore:Glyph")
def test_curves_are_korean_but_not_in_an_english_document(in_korean, monkeypatch):
    monkeypatch.setattr(plots, "_korean_font", lambda: "DejaVu Sans")

    def told():
        figure = plots.losses({"training": [(0, 2.0)], "validation": [(4, 1.25)]})
        plots.as_html(figure, alt="Two curves of the loss.")
        return {text.get_text() for text in figure.findobj(Text)}

    korean = {"훈련", "검증", "학습 스텝", "손실(토큰당 nat)", "최저: 1.25, 스텝 4"}
    assert korean <= told()
    with plots.in_english():
        assert {"training", "lowest: 1.25 at step 4"} <= told() and not korean & told()
    assert korean <= told()


def test_a_report_keeps_its_figures_english(in_korean, monkeypatch):
    monkeypatch.setattr(plots, "_korean_font", lambda: "DejaVu Sans")
    parts = "headline _comparison _comparison_figure _on_test _confusion _answers _tuning _kept"
    for part in f"{parts} _data _use".split():
        monkeypatch.setattr(Report, part, lambda self: "")
    monkeypatch.setattr(Report, "_tuning", lambda self: "## Tuning")
    monkeypatch.setattr(Report, "_losses", lambda self: plots.wording("training step"))
    sections = Report(None, None, {}, None, "mine").sections()
    assert ("## Tuning", "training step") in sections
    assert plots.wording("training step") == "학습 스텝"


@pytest.mark.parametrize(("language", "font"), [("ko", None), ("en", "DejaVu Sans")])
def test_a_figure_is_english_otherwise_and_never_has_boxes(language, font, monkeypatch):
    monkeypatch.setenv("WORKBOOK_LANGUAGE", language)
    assert not re.search("[가-힣]", "".join(drawn(monkeypatch, font)))


def test_a_phrase_without_translation_is_named():
    with pytest.raises(WorkbookError, match="interface.yaml has no translation of 'Teapot'"):
        translation.say("Teapot", "ko")
    assert translation.say("Teapot", "en") == "Teapot"


# ---------------------------------------------------------------------------------- the machinery


SOURCE = """\
# %% [markdown]
# # 01 First
#
# See [data](../data/README.md).

# %% [markdown] slide="notes"
# Speak.

# %%
print("hello")

# %% exercise="mean"
def mean(values):
    # BEGIN SOLUTION
    return sum(values) / len(values)
    # END SOLUTION

# %% check="mean"
print(mean([1, 2]))

# %% [markdown]
# <details><summary>Hint 1</summary>Add.</details>
"""
TEXTS = ["# 01 First\n\nSee [data](../data/README.md).", "Speak.",
         "<details><summary>Hint 1</summary>Add.</details>"]  # fmt: skip
KOREAN_TEXTS = ["# 01 첫째\n\n[자료](../data/README.md)를 봅니다.", "말합니다.",
                "<details><summary>힌트 1</summary>더해 보세요.</details>"]  # fmt: skip
PHRASES = translation.phrases("ko")
README = """\
# Course

One line,
and another.

```
make lab  # opens it
```

<details><summary>All</summary>

```
lib/
```

</details>

<!-- minutes:start -->
old
<!-- minutes:end -->
"""
KOREAN_README = ["# 워크북", "한 줄과\n또 한 줄.", "```\nmake lab  # 엽니다\n```",
                 "<details><summary>모두</summary>"]  # fmt: skip


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A course with one notebook, built and translated; returns its source."""
    monkeypatch.setattr(settings, "repo_root", lambda: tmp_path)
    path = tmp_path / "notebooks" / "source" / "01_first.py"
    (path.parent / "ko").mkdir(parents=True)
    (path.parent / "ko" / "interface.yaml").write_text(
        yaml.safe_dump(PHRASES, allow_unicode=True), "utf-8"
    )
    path.write_text(SOURCE, "utf-8")
    readme.path().write_text(README, "utf-8")
    write_records(translation.path(path, "ko"), TEXTS, KOREAN_TEXTS)
    return path


def write_records(path, texts, korean_texts):
    rows = [
        {"english": translation.digest(english), "korean": korean}
        for english, korean in zip(texts, korean_texts, strict=True)
    ]
    path.write_text(yaml.safe_dump(rows, allow_unicode=True), "utf-8")


def change(source, old, new):
    source.write_text(source.read_text("utf-8").replace(old, new), "utf-8")


def sources_of(notebook, kind):
    return [cell.source for cell in notebook.cells if cell.cell_type == kind]


def test_a_changed_sentence_makes_its_record_stale_and_no_other(source):
    change(source, "# Speak.", "# Speak louder.")
    found = pairs(build.texts(source), translation.path(source, "ko"))
    assert [state(*pair).split(":")[0] for pair in found] == ["", "stale", ""]
    _, notes, *_ = sources_of(build.make(source, "solved", "ko"), "markdown")
    assert "Speak louder." in notes and PHRASES[translation.CHANGED] in notes
    assert "말합니다" not in notes


def test_a_new_text_is_missing_and_a_dropped_one_is_orphaned(source):
    change(source, "# %%\nprint", "# %% [markdown]\n# New.\n\n# %%\nprint")
    found = pairs(build.texts(source), translation.path(source, "ko"))
    assert [state(*pair).split(":")[0] for pair in found] == ["", "", "missing", ""]
    change(source, '# %% [markdown] slide="notes"\n# Speak.\n\n', "")
    change(source, "# %% [markdown]\n# New.\n\n", "")
    found = pairs(build.texts(source), translation.path(source, "ko"))
    assert [state(*pair).split(":")[0] for pair in found] == ["", "orphaned", ""]


@pytest.mark.parametrize("edition", build.EDITIONS)
def test_code_is_that_of_the_english_edition(source, edition):
    korean, english = build.make(source, edition, "ko"), build.make(source, edition)
    assert sources_of(korean, "code") == sources_of(english, "code")
    assert len(korean.cells) == len(english.cells)
    assert korean.metadata["workbook"]["language"] == "ko"
    assert "language" not in english.metadata["workbook"]


@pytest.mark.parametrize("source", build.sources(), ids=lambda path: path.stem)
def test_code_of_the_course_is_that_of_the_english_edition(source):
    korean, english = build.make(source, "learner", "ko"), build.make(source, "learner")
    assert sources_of(korean, "code") == sources_of(english, "code")


def test_what_the_build_adds_is_korean_and_stands_where_it_should(source):
    texts = sources_of(build.make(source, "learner", "ko", notes=True), "markdown")
    assert texts[0].startswith("# 01 첫째\n\n[자료](../../data/README.md)")
    assert texts[1] == "<details><summary>발표자 노트</summary>\n\n말합니다.\n\n</details>"
    assert texts[2] == KOREAN_TEXTS[2]
    assert texts[3].startswith("<details><summary>풀이</summary>")
    solved = sources_of(build.make(source, "solved", "ko"), "markdown")
    assert "(../../../data/README.md)" in solved[0]


def test_a_notebook_without_records_is_english_with_one_mark_at_its_top(source):
    translation.path(source, "ko").unlink()
    first, *others = sources_of(build.make(source, "learner", "ko"), "markdown")
    assert first.startswith("# 01 First") and PHRASES[translation.UNTRANSLATED] in first
    assert not any(PHRASES[translation.UNTRANSLATED] in text for text in others)
    assert [text.split("</summary>")[0] for text in others] == [
        "<details><summary>Hint 1",
        "<details><summary>풀이",
    ]


def test_a_changed_translation_is_another_version(source):
    before = build.version(build.make(source, "learner", "ko"))
    english = build.version(build.make(source, "learner"))
    file = translation.path(source, "ko")
    file.write_text(file.read_text("utf-8").replace("말합니다", "이야기합니다"), "utf-8")
    assert build.version(build.make(source, "learner", "ko")) != before != english
    assert build.version(build.make(source, "learner")) == english


def test_the_command_builds_both_editions_with_the_outputs_of_the_english_one(source):
    solved = build.make(source, "solved")
    solved.cells[2].outputs = [new_output("stream", text="hello")]
    build.write(solved, build.output_path(source, "solved"))
    result = CliRunner().invoke(cli.app, ["build", "--language", "ko"])
    assert result.exit_code == 0, result.output
    folder = settings.notebooks_dir() / "ko"
    assert build.read(folder / "01_first.ipynb") == build.make(source, "learner", "ko")
    korean = build.read(folder / "solutions" / "01_first.ipynb")
    assert korean.cells[2].outputs[0]["text"] == "hello"
    assert not build.output_path(source, "learner").exists()


def test_the_command_prints_what_is_to_be_translated(source):
    assert CliRunner().invoke(cli.app, ["translate", "01"]).output.strip() == ""
    change(source, "# Speak.", "# Speak louder.")
    printed = CliRunner().invoke(cli.app, ["translate", "01"]).output
    assert "# Speak louder." in printed
    [row] = yaml.safe_load(printed)
    assert row == {"english": translation.digest("Speak louder."), "korean": "말합니다.\n"}


def test_the_command_prints_what_checks_say(source, monkeypatch):
    monkeypatch.setattr(teaching, "texts", lambda number: [f"Number {number}.", "Mean {value}."])
    file = report.records_dir("ko") / "01.yaml"
    file.parent.mkdir()
    file.write_text(f'- english: "{translation.digest("Number 01.")}"\n  korean: 1번.\n', "utf-8")
    printed = CliRunner().invoke(cli.app, ["translate", "01", "--checks"]).output
    assert printed.startswith("# Mean {value}.\n- english: ") and "Number" not in printed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- english: 12\n  korean: 가\n", r"01_first.yaml, record 1: give it `english`"),
        ('- english: "ab"\n', r"01_first.yaml, record 1: give it `english`"),
        ('- english: "ab"\n  korean: 가\n  note: 나\n', r"record 1: give it `english`"),
        ("- english: [", r"01_first.yaml cannot be read as a list of records"),
        ("17", r"01_first.yaml cannot be read as a list of records"),
    ],
)
def test_a_malformed_record_is_named(source, text, message):
    translation.path(source, "ko").write_text(text, "utf-8")
    with pytest.raises(WorkbookError, match=message):
        build.make(source, "learner", "ko")


@pytest.fixture
def korean_readme(source):
    """The same course with a translated README; returns the Korean file, not made yet."""
    write_records(readme.records_file("ko"), readme.texts(), KOREAN_README)
    return readme.path("ko")


@pytest.mark.parametrize("language", ["en", "ko"])
def test_the_readme_is_made_in_each_language(korean_readme, language):
    assert CliRunner().invoke(cli.app, ["build", "01", "--language", language]).exit_code == 0
    made = korean_readme.read_text("utf-8")
    assert made.startswith("<!-- Made by `workbook build`") and made.count("old") == 0
    expected = [*KOREAN_README, "```\nlib/\n```\n\n</details>", "<!-- minutes:start -->"]
    places = [made.index(text) for text in expected]
    assert places == sorted(places) and "아직 쓰지 않은 장: 00 여기서 시작, " in made
    assert "Planned, not written yet: 00 Start here, " in readme.path().read_text("utf-8")


def test_a_course_without_a_translated_readme_has_none(source):
    readme.refresh_readme()
    assert not readme.path("ko").exists()


def test_a_changed_paragraph_of_the_readme_is_english_with_a_mark(korean_readme):
    readme.path().write_text(README.replace("another", "a third"), "utf-8")
    readme.refresh_readme()
    made = korean_readme.read_text("utf-8")
    mark = f'<blockquote lang="ko">{PHRASES[translation.CHANGED]}</blockquote>'
    assert f"One line,\nand a third.\n\n{mark}\n\n```\nmake lab  # 엽니다" in made
    assert made.count(mark) == 1 and "또 한 줄" not in made
    printed = CliRunner().invoke(cli.app, ["translate", "readme"]).output
    [row] = yaml.safe_load(printed)
    assert row == {
        "english": translation.digest("One line,\nand a third."),
        "korean": f"{KOREAN_README[1]}\n",
    }


# ------------------------------------------------------------------------- the reader's language


@pytest.fixture
def opened(source, monkeypatch):
    """The folders in which JupyterLab is opened, without starting it."""
    monkeypatch.delenv("WORKBOOK_LANGUAGE", raising=False)
    folders = []
    monkeypatch.setattr(
        workspace.subprocess, "call", lambda command, env: folders.append(command[-1]) or 0
    )
    return folders


def test_the_language_of_the_lab_is_remembered(opened, source):
    runner = CliRunner()
    for options in ([], ["--language", "ko"], []):
        assert runner.invoke(cli.app, ["lab", *options]).exit_code == 0
    assert [place.split("/tree/")[1] for place in opened] == [
        "my/00_start_here.ipynb", *["my/ko/00_start_here.ipynb"] * 2
    ]  # fmt: skip
    copy = build.read(settings.repo_root() / "my" / "ko" / "01_first.ipynb")
    assert copy.cells[0].source.startswith("# 01 첫째\n\n[자료](../../data/README.md)")
    assert settings.language() == "ko"
    assert runner.invoke(cli.app, ["lab", "--language", "en"]).exit_code == 0
    assert settings.language() == "en"


def test_the_variable_goes_before_what_is_remembered(source, monkeypatch):
    workspace.remember("ko")
    monkeypatch.setenv("WORKBOOK_LANGUAGE", "en")
    assert settings.language() == "en"
    monkeypatch.setenv("WORKBOOK_LANGUAGE", "fr")
    with pytest.raises(WorkbookError, match="The language is 'fr': choose en or ko."):
        settings.language()


def test_only_the_english_edition_is_kept():
    from workbook.authoring import execute  # which imports torch, and nothing else here does

    with pytest.raises(WorkbookError, match="Only the English edition is kept"):
        execute.run(["00"], keep=True, language="ko")


def test_the_glossary_speaks_the_readers_language(monkeypatch):
    for language, meaning in (("en", "The unit that"), ("ko", "언어 모델이 읽고 쓰는 단위")):
        monkeypatch.setenv("WORKBOOK_LANGUAGE", language)
        assert meaning in glossary.table("tokenizer".removesuffix("izer"))
