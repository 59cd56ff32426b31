"""Templates: promptsource's files, splitting, errors, and what a template may not do."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbook.errors import WorkbookError
from workbook.templates import Pair, Template, few_shot, load_templates

ROOT = Path(__file__).resolve().parents[2]
PROMPTSOURCE = ROOT.parent / "shared" / "data" / "promptsource"
ROWS = {
    "ag_news": {"text": "Shares rose on Monday.", "label": 2},
    "boolq": {"passage": "Rain is water.", "question": "is rain wet", "label": 1, "idx": 0},
    "imdb": {"text": "A fine film.", "label": 1},
    "piqa": {"goal": "Boil an egg", "sol1": "Use hot water", "sol2": "Use cold air", "label": 0},
    "rotten_tomatoes": {"text": "A dull film.", "label": 0},
    "rte": {"sentence1": "It rains.", "sentence2": "It is wet.", "label": 0, "idx": 0},
    "samsum": {"id": "1", "dialogue": "A: Hi\nB: Bye", "summary": "They met."},
    "squad": {
        "context": "Ann lives in Rome.",
        "question": "Where does Ann live?",
        "answers": {"text": ["Rome"], "answer_start": [13]},
    },
    "xsum": {"document": "Long news.", "summary": "Short news.", "id": "1"},
}
PLAIN = Template(
    "plain", "{{text}}\nSentiment: ||| {{answer_choices[label]}}", "negative ||| positive"
)
GOOD = """
templates:
  1: !Template
    name: ask
    jinja: "{{question}} ||| {{answer}}"
    answer_choices: null
    metadata: !TemplateMetadata
      metrics: [Accuracy]
"""
# The stand-in for pipes is a noncharacter, and lone surrogates are no text.
texts = st.text(st.characters(exclude_characters="\ufdd0", exclude_categories=["Cs"]))


@pytest.mark.parametrize("name", ROWS)
def test_promptsource_files_load_and_render_unchanged(name):
    if not PROMPTSOURCE.is_dir():
        pytest.skip("the real promptsource files are not here")
    templates = load_templates(PROMPTSOURCE / f"{name}.yaml")
    assert len(templates) >= 5
    for template in templates:
        pair = template.render(ROWS[name])
        assert pair.prompt and pair.completion, template.name
        choices = template.choices(ROWS[name])
        if choices and template.name != "Negation template for positive and negative":
            assert pair.completion in choices
        assert "metrics" in template.metadata


def test_promptsource_rendering_by_hand():
    if not PROMPTSOURCE.is_dir():
        pytest.skip("the real promptsource files are not here")
    named = {t.name: t for t in load_templates(PROMPTSOURCE / "boolq.yaml")}
    assert named["GPT-3 Style"].render(ROWS["boolq"]) == Pair(
        "Rain is water. \nQuestion: is rain wet\nAnswer:", "Yes"
    )
    assert named["GPT-3 Style"].render({**ROWS["boolq"], "label": -1}).completion == ""


def test_prompt_completion_and_choices():
    row = {"text": "Fine.", "label": 1}
    assert PLAIN.render(row) == Pair("Fine.\nSentiment:", "positive")
    assert PLAIN.choices(row) == ["negative", "positive"]
    assert Template("free", "{{text}}").render(row) == Pair("Fine.", "")
    assert Template("free", "{{text}}").choices(row) == []


def test_choices_are_jinja_of_the_row():
    template = Template("c", "?|||{{answer_choices[1]}}", "{{options | join(' ||| ')}}")
    row = {"options": ["a", "b ||| c"]}
    assert template.choices(row) == ["a", "b ||| c"]
    assert template.render(row) == Pair("?", "b ||| c")


def test_nested_fields_and_pipes_at_edges():
    template = Template("n", "{{answers.text[0]}}|||{{label}}")
    assert template.render({"answers": {"text": ["x ||| y|"]}, "label": "|z"}) == ("x ||| y|", "|z")


@settings(deadline=None)
@given(texts, texts)
def test_fields_come_through_as_they_are(text, answer):
    pair = Template("t", "Q: {{text}}\nA: ||| {{answer}}").render({"text": text, "answer": answer})
    assert pair == (f"Q: {text}\nA:", answer.strip())


@settings(deadline=None)
@given(texts)
def test_a_field_against_the_separator_does_not_move_it(text):
    pair = Template("t", "{{text}}|||{{text}}").render({"text": text})
    assert pair == (text.strip(), text.strip())


@settings(deadline=None)
@given(st.lists(texts, min_size=1, max_size=4), texts)
def test_few_shot_keeps_every_demonstration_in_order(shots, text):
    demonstrations = [{"text": shot, "label": index % 2} for index, shot in enumerate(shots)]
    prompt, completion = few_shot(PLAIN, demonstrations, {"text": text, "label": 0}, "\n##\n")
    names = ["negative", "positive"]
    expected = [f"{PLAIN.render(row).prompt} {names[row['label']]}" for row in demonstrations] + [
        PLAIN.render({"text": text, "label": 0}).prompt
    ]
    assert prompt == "\n##\n".join(expected)
    assert completion == "negative"


def test_zero_shot_is_the_plain_pair_and_blank_demonstrations_are_refused():
    row = {"text": "Fine.", "label": 1}
    assert few_shot(PLAIN, [], row) == PLAIN.render(row)
    with pytest.raises(WorkbookError, match="'free'.*empty completion"):
        few_shot(Template("free", "{{text}}"), [row], row)


def test_choice_is_the_same_each_time_and_varies_over_rows():
    template = Template("c", "{{ [1, 2, 3, 4] | choice }}{{ [1, 2, 3, 4] | random }}")
    drawn = [template.render({"text": str(number)}).prompt for number in range(40)]
    assert drawn == [template.render({"text": str(number)}).prompt for number in range(40)]
    assert len(set(drawn)) > 8


def test_extras_of_promptsource():
    template = Template(
        "z", "{% for a, b in zip(x, y) %}{{a}}{{b}} {% endfor %}|||{{x|most_frequent}}"
    )
    assert template.render({"x": "aba", "y": [1, 2, 3]}) == Pair("a1 b2 a3", "['a']")


def test_an_undefined_field_is_named_with_the_template_and_the_fields():
    with pytest.raises(WorkbookError, match="'plain'.*'text' is undefined.*review, label"):
        PLAIN.render({"review": "x", "label": 1})


def test_a_label_without_choice_is_an_error():
    with pytest.raises(WorkbookError, match="'plain'.*no element 7"):
        PLAIN.render({"text": "x", "label": 7})


def test_two_separators_are_an_error():
    with pytest.raises(WorkbookError, match="'two' has more than one"):
        Template("two", "a ||| b ||| c").render({})


@pytest.mark.parametrize(
    "attack",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ text.append('x') }}",
        "{{ _random.__class__ }}",
        "{% for i in range(10 ** 9) %}x{% endfor %}",
    ],
)
def test_a_template_cannot_leave_its_sandbox(attack):
    with pytest.raises(WorkbookError, match="Template 'evil' fails"):
        Template("evil", attack).render({"text": ["a"]})


def test_files_and_texts_load_alike(tmp_path):
    (tmp_path / "good.yaml").write_text(GOOD)
    (template,) = load_templates(tmp_path / "good.yaml")
    assert (template,) == load_templates(GOOD) == load_templates(str(tmp_path / "good.yaml"))
    assert template.render({"question": "1+1?", "answer": 2}) == Pair("1+1?", "2")
    assert template.metadata == {"metrics": ["Accuracy"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD.replace("{{question}}", "{{question"), "bad.yaml.*'ask'"),
        (GOOD.replace("name: ask", "title: ask"), "bad.yaml.*'name'"),
        (GOOD.replace("jinja:", "ninja:"), "bad.yaml.*'ask'.*'jinja'"),
        (GOOD.replace("!Template\n", "!!python/object/apply:os.system\n"), "bad.yaml is not"),
        ("templates: [\n", "bad.yaml is not"),
        ("- just a list\n", "bad.yaml is not"),
        (GOOD + GOOD.partition("templates:\n")[2], "bad.yaml is not.*stands twice"),
        (GOOD.replace("name: ask", "name: ask\n    name: other"), "'name' stands twice"),
        ("title: no templates\n", "bad.yaml is not"),
    ],
)
def test_bad_files_are_named(tmp_path, text, message):
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(WorkbookError, match=message):
        load_templates(tmp_path / "bad.yaml")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(WorkbookError, match="nowhere.yaml cannot be read"):
        load_templates(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize("file", sorted((ROOT / "data" / "templates").glob("*.yaml")), ids=str)
def test_our_own_files_have_four_distinct_templates(file):
    templates = load_templates(file)
    assert len(templates) >= 4
    assert len({t.name for t in templates}) == len({t.jinja for t in templates}) == len(templates)
