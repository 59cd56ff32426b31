"""Jinja templates in the promptsource format: one data row in, prompt and completion out."""

import functools
import json
import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import yaml
from jinja2.sandbox import ImmutableSandboxedEnvironment

from .errors import WorkbookError

SEPARATOR = "|||"
# A Unicode noncharacter: it stands for a pipe of the row's text while the rendering is split.
_PIPE = "\ufdd0"


class Pair(NamedTuple):
    """A prompt and the completion that a model should write after it."""

    prompt: str
    completion: str


@jinja2.pass_context
def _choice(context, items):
    return context["_random"].choice(list(items))


def _most_frequent(items):
    counts = Counter(items)
    return [item for item, count in counts.items() if count == max(counts.values())]


_environment = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined)
_environment.globals["zip"] = zip
# Seeded by the row, so that a dataset is worded the same way each time it is rendered.
_environment.filters |= {"choice": _choice, "random": _choice, "most_frequent": _most_frequent}


@functools.lru_cache(maxsize=1024)
def _compile(source: str) -> jinja2.Template:
    return _environment.from_string(source)


def _protect(value: Any) -> Any:
    """Return the value with those pipes replaced that could form a separator."""
    if isinstance(value, str):
        # A pipe at the edge could join pipes of the template, so it is replaced as well.
        edges = r"\|{3,}|\A\|+|\|+\Z"
        return re.sub(edges, lambda match: _PIPE * len(match[0]), value)
    if isinstance(value, Mapping):
        return {key: _protect(item) for key, item in value.items()}
    return [_protect(item) for item in value] if isinstance(value, (list, tuple)) else value


def _split(text: str) -> list[str]:
    return [part.replace(_PIPE, "|").strip() for part in text.split(SEPARATOR)]


@dataclass(frozen=True)
class Template:
    """One way to word a task, in the fields of promptsource (Bach et al. 2022, arXiv 2202.01279).

    `jinja` renders to "prompt ||| completion"; `answer_choices`, Jinja too, to "a ||| b".
    Raises WorkbookError when either is not valid Jinja.
    """

    name: str
    jinja: str
    answer_choices: str | None = None
    metadata: Mapping = field(default_factory=dict, hash=False)
    reference: str = ""

    def __post_init__(self):
        try:
            for source in (self.jinja, self.answer_choices or ""):
                _compile(source)
        except jinja2.TemplateSyntaxError as error:
            message = f"Template {self.name!r}, line {error.lineno}: mend its Jinja: {error}"
            raise WorkbookError(message) from error

    def render(self, row: Mapping) -> Pair:
        """Return the stripped prompt and completion of a row; a missing completion is "".

        Raises WorkbookError when the template names a field that the row lacks, or fails.
        """
        known = {"answer_choices": self.choices(row)} if self.answer_choices else {}
        parts = _split(self._fill(self.jinja, row, known))
        if len(parts) > 2:
            raise WorkbookError(
                f"Template {self.name!r} has more than one {SEPARATOR!r}: keep one."
            )
        return Pair(*parts, *[""] * (2 - len(parts)))

    def choices(self, row: Mapping) -> list[str]:
        """Return the possible completions of a row; empty when the answer is free text."""
        return _split(self._fill(self.answer_choices, row, {})) if self.answer_choices else []

    def _fill(self, source: str, row: Mapping, known: Mapping) -> str:
        values = {key: _protect(value) for key, value in {**row, **known}.items()}
        try:  # Whatever fails inside belongs to the template or the row, so it is told as such.
            return _compile(source).render(values, _random=random.Random(f"{self.name}{dict(row)}"))
        except Exception as error:
            message = f"Template {self.name!r} fails: {error}; the row has {', '.join(row)}."
            raise WorkbookError(message) from error


def literal_choices(texts: Iterable[str]) -> str:
    """Return `answer_choices` that render to these very texts, also to {{ and |||."""
    literals = (json.dumps(_protect(text), ensure_ascii=False) for text in texts)
    return f" {SEPARATOR} ".join(f"{{{{ {literal} }}}}" for literal in literals)


class _Loader(yaml.SafeLoader):
    """A safe loader that also knows promptsource's two tags, as plain mappings.

    Of two entries with one name it would keep the last, so that a template were lost.
    """

    def construct_mapping(self, node, deep=False):
        counts = Counter(key.value for key, _ in node.value)
        if twice := [name for name, count in counts.items() if count > 1]:
            where = f"line {node.start_mark.line + 1}"
            raise yaml.YAMLError(f"below {where} {twice[0]!r} stands twice, rename or remove one")
        return super().construct_mapping(node, deep)


for _tag in ("!Template", "!TemplateMetadata"):
    _Loader.add_constructor(_tag, lambda loader, node: loader.construct_mapping(node, deep=True))


def load_templates(source: Path | str) -> tuple[Template, ...]:
    """Return the templates of a promptsource YAML file, given as a path or as its text.

    Raises WorkbookError naming file and template when the file or a template is malformed.
    """
    is_text = isinstance(source, str) and "\n" in source
    origin = "the template text" if is_text else Path(source).name
    try:
        text = source if is_text else Path(source).read_text(encoding="utf-8")
        entries = yaml.load(text, _Loader)["templates"].values()
        return tuple(_template(entry) for entry in entries)
    except WorkbookError as error:
        raise WorkbookError(f"{origin}: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise WorkbookError(f"{origin} cannot be read: check the path ({error}).") from error
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        message = f"{origin} is not a promptsource file; compare it with one in data/templates"
        raise WorkbookError(f"{message} ({' '.join(str(error).split())}).") from error


def _template(entry: Mapping) -> Template:
    for key in ("name", "jinja"):
        if not isinstance(entry.get(key), str):
            raise WorkbookError(f"Template {entry.get('name')!r} needs a text as its {key!r}.")
    metadata, reference = entry.get("metadata") or {}, entry.get("reference") or ""
    return Template(entry["name"], entry["jinja"], entry.get("answer_choices"), metadata, reference)


def few_shot(
    template: Template, demonstrations: Iterable[Mapping], row: Mapping, separator: str = "\n\n"
) -> Pair:
    """Return the row's pair with answered demonstrations before its prompt.

    Raises WorkbookError when a demonstration has no completion.
    """
    shots = [template.render(demonstration) for demonstration in demonstrations]
    if not all(shot.completion for shot in shots):
        raise WorkbookError(f"Template {template.name!r}: a demonstration has an empty completion.")
    prompt, completion = template.render(row)
    return Pair(separator.join([*(f"{p} {c}" for p, c in shots), prompt]), completion)
