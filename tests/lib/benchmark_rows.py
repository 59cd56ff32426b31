"""Made-up rows in the schemas of the benchmarks' hub datasets."""

import json

THINGS = [
    "a stone",
    "the old bridge",
    "my phone",
    "a small cafe",
    "our teacher",
    "rain",
    "25 euros",
]


def thing(i):
    return THINGS[i % len(THINGS)]


def arc(i):
    number = 3 if i % 4 == 3 else 4
    return {
        "id": f"own-{i}",
        "question": f"What falls faster than {thing(i)} number {i}?",
        "choices": {
            "text": [f"{thing(i + k)} of size {k}" for k in range(number)],
            "label": list("ABCD" if i % 2 else "1234")[:number],
        },
        "answerKey": "B" if i % 2 else "3",
    }


def hellaswag(i):
    header = "[header] How to mend things [title] Look at it. [step] " if i % 2 else ""
    before = f"{header}Somebody finds {thing(i)} in the street, number {i}."
    return {
        "ind": i,
        "activity_label": "Mending",
        "ctx_a": before,
        "ctx_b": "she" if i % 3 else "",
        "ctx": f"{before} she",
        "endings": [f"takes {thing(i + k)} home. [substeps] Then it rains." for k in range(4)],
        "label": str(i % 4),
    }


def mmlu(i, subject="moral_disputes"):
    return {
        "question": f" How many of {thing(i)} make {i}? ",
        "subject": subject,
        "choices": [str(i + k) for k in range(4)],
        "answer": i % 4,
    }


def truthfulqa(i):
    right = [f"Nothing happens to {thing(i)}", f"It stays {thing(i)}"]
    wrong = [f"It becomes {thing(i + k)}" for k in range(1, 3 + i % 2)]
    return {
        "question": f"What happens if you look at {thing(i)} {i} times?",
        "mc1_targets": {
            "choices": [right[0], *wrong],
            "labels": [1] + [0] * len(wrong),
        },
        "mc2_targets": {
            "choices": right + wrong,
            "labels": [1] * len(right) + [0] * len(wrong),
        },
    }


def write(path, rows):
    """The rows as a JSON Lines file, and its path."""
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path
