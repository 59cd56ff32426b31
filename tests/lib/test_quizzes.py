"""Quizzes: every option explains itself, nothing gives the answer away, wrong files are told."""

import re
from collections import Counter
from html.parser import HTMLParser

import pytest
import yaml

from workbook import checks
from workbook.authoring import build
from workbook.checks import quizzes
from workbook.errors import WorkbookError

NOTEBOOKS = sorted(path.stem for path in quizzes.FOLDER.glob("*.yaml"))
QUESTIONS = [(notebook, q) for notebook in NOTEBOOKS for q in quizzes.questions(notebook)]
OPTIONS = [option for _, question in QUESTIONS for option in question.options]
QUESTION = {
    "question": "Is `<a>` & b\nright?",
    "right": [{"option": "one < two", "why": "Since `1 < 2`."}],
    "wrong": [{"option": "two", "why": "No & no."}, {"option": "three", "why": "Too many."}],
}


class Page(HTMLParser):
    """The tags and attributes of a page, the text of each <summary>, and what is left open."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.summaries, self.open, self.texts = [], [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        self.open.append(tag)
        if tag == "summary":
            self.summaries.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)
        if "summary" in self.open:
            self.summaries[-1] += data


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write questions/09.yaml, the only quiz."""
    monkeypatch.setattr(quizzes, "FOLDER", tmp_path)

    def write(content):
        text = content if isinstance(content, str) else yaml.safe_dump(content)
        (tmp_path / "09.yaml").write_text(text, encoding="utf-8")

    return write


@pytest.fixture
def pages():
    return {notebook: quizzes.rendered(notebook) for notebook in NOTEBOOKS}


def test_every_notebook_has_a_quiz():
    numbers = {source.name[:2] for source in build.sources()}
    assert sorted(numbers - {"00"}) == NOTEBOOKS
    assert min(Counter(notebook for notebook, _ in QUESTIONS).values()) >= 4


def test_each_option_explains_itself_in_a_sentence():
    assert all(re.search(r"\w.*[.)]$", option.why) for option in OPTIONS)
    assert all(len(option.why.split()) >= 4 for option in OPTIONS)
    assert not any(re.match(r"(Yes|No|Right|Wrong)[,.:]", option.why) for option in OPTIONS)


def test_backticks_come_in_pairs():
    texts = [q.text for _, q in QUESTIONS] + [t for o in OPTIONS for t in (o.text, o.why)]
    assert not [text for text in texts if text.count("`") % 2]


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_the_page_is_whole_and_an_option_is_a_details(notebook, pages):
    page = Page(pages[notebook]["text/html"])
    options = [option for question in quizzes.questions(notebook) for option in question.options]
    assert page.open == []
    assert page.summaries == [option.text.replace("`", "") for option in options]
    assert page.tags.count("details") == page.texts.count("✓ Right.") + page.texts.count("✗ Wrong.")


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_the_page_needs_no_script_no_network_and_no_colour(notebook, pages):
    page = Page(pages[notebook]["text/html"])
    assert set(page.tags) <= {"div", "p", "b", "code", "details", "summary"}
    assert {name for name, _ in page.attributes} == {"style"}  # nothing is open, no handler
    styles = " ".join(value for _, value in page.attributes)
    assert not re.search(r"color|background|display|url", styles)


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_the_text_has_all_options_and_no_answer(notebook, pages):
    plain = pages[notebook]["text/plain"]
    for question in quizzes.questions(notebook):
        assert question.text in plain
        for option in question.options:
            assert f") {option.text}\n" in plain
            assert option.why not in plain
    assert "✓" not in plain and "✗" not in plain


def test_neither_place_nor_length_gives_the_answer_away():
    first = Counter(q.options.index(next(o for o in q.options if o.is_right)) for _, q in QUESTIONS)
    assert min(first[place] for place in range(3)) >= len(QUESTIONS) / 5
    for notebook in NOTEBOOKS:
        places = {tuple(o.is_right for o in q.options[:3]) for n, q in QUESTIONS if n == notebook}
        assert len(places) > 1
    longest = [max(q.options, key=lambda option: len(option.text)) for _, q in QUESTIONS]
    assert sum(option.is_right for option in longest) <= len(QUESTIONS) / 2


def test_the_order_survives_a_change_of_words(write):
    def order():
        return [option.why for option in quizzes.questions("09")[0].options]

    write([QUESTION])
    before = order()
    write([QUESTION | {"question": "In other words?"}])
    assert order() == before


def test_marks_and_code_are_escaped(write):
    write([QUESTION])
    page = quizzes.rendered("09")["text/html"]
    assert "<b>1. Is <code>&lt;a&gt;</code> &amp; b right?</b>" in page
    assert "<summary>one &lt; two</summary>" in page
    assert "<b>✓ Right.</b> Since <code>1 &lt; 2</code>.</p>" in page
    assert "<b>✗ Wrong.</b> No &amp; no.</p>" in page


def test_several_right_answers_are_announced(write):
    write([QUESTION | {"right": [*QUESTION["right"], {"option": "four", "why": "Also."}]}])
    shown = quizzes.rendered("09")
    assert shown["text/html"].count("✓ Right.") == 2
    assert all("(More than one answer is right.)" in text for text in shown.values())
    write([QUESTION])
    assert not any("More than one" in text for text in quizzes.rendered("09").values())


def test_quiz_displays_both(monkeypatch):
    shown = []
    monkeypatch.setattr(quizzes, "display", lambda data, raw: shown.append(data))
    assert checks.quiz("03") is None
    assert shown == [quizzes.rendered("03")]


def changed(**changes):
    return [QUESTION, QUESTION | changes]


@pytest.mark.parametrize(
    "content, message",
    [
        ("- question: a: b", r"09\.yaml cannot be read as YAML: .*line 1"),
        ("", r"09\.yaml: write a list"),
        ("question: one", r"09\.yaml: write a list"),
        ([QUESTION, "text"], "question 2: give it `question`, `right` and `wrong`"),
        ([{**QUESTION, "hint": "x"}], "question 1: give it `question`, `right` and `wrong`"),
        (changed(question=3), "question 2: `question` must be a text"),
        (changed(right=[]), "question 2: `right` and `wrong` are lists"),
        (changed(wrong={"option": "a", "why": "b"}), "question 2: `right` and `wrong` are lists"),
        (changed(wrong=QUESTION["wrong"][:1]), "question 2: give three different options"),
        (changed(wrong=QUESTION["wrong"] + QUESTION["right"]), "question 2: give three different"),
        (changed(right=[{"option": "a"}]), "question 2: give each option as `option` and `why`"),
        (changed(right=["a"]), "question 2: give each option as `option` and `why`"),
        (changed(right=[{"option": 80, "why": "b"}]), "question 2: `option` must be a text: put a"),
        (changed(right=[{"option": "a", "why": " "}]), "question 2: `why` must be a text"),
    ],
)
def test_a_wrong_file_is_told_with_its_question(write, content, message):
    write(content)
    with pytest.raises(WorkbookError, match=message):
        quizzes.questions("09")


def test_an_unknown_notebook_is_told(write):
    write([QUESTION])
    with pytest.raises(WorkbookError, match="There is no quiz '13': choose from 09."):
        checks.quiz("13")


def right_answers(notebook):
    return " ".join(
        "".join(
            letter for letter, option in zip("abcdef", q.options, strict=False) if option.is_right
        )
        for q in quizzes.questions(notebook)
    )


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_answers_that_are_all_right_are_noted(notebook, capsys):
    count = len(quizzes.questions(notebook))
    checks.quiz(notebook, right_answers(notebook))
    assert f"{count} of {count} answered rightly." in capsys.readouterr().out
    assert checks.quiz_results() == {notebook: f"{count} of {count}"}
    assert checks.progress() == {}


def test_a_wrong_answer_is_named_and_the_best_result_stays(capsys):
    words = right_answers("03").upper().split()
    wrong = ["abc", *words[1:]]
    checks.quiz("03", ", ".join(wrong))
    assert f"{len(words) - 1} of {len(words)} answered rightly; look again at 1." in (
        capsys.readouterr().out
    )
    checks.quiz("03", " ".join(words))
    checks.quiz("03", " ".join(wrong))
    assert checks.quiz_results() == {"03": f"{len(words)} of {len(words)}"}


@pytest.mark.parametrize(
    ("answers", "message"), [("a b", "Answer all"), ("z a a a a", "'z' is no")]
)
def test_answers_that_cannot_be_graded_are_told(answers, message):
    with pytest.raises(WorkbookError, match=message):
        checks.quiz("03", answers)
    assert checks.quiz_results() == {}
