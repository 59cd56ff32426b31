"""New knowledge against new form: what tuning on facts that nobody can know teaches and costs.

Full fine-tuning of the embedded model on 40 questions with short answers, 80 steps of eight at a
rate that stays after six steps of warm-up (sixteen passes), scored after one, four and sixteen.

made up   the 40 facts below, about places, people and things that do not exist: the same in every
          run, seeds are orders. The form is that of `facts`, so what is new is the knowledge
real      40 training questions of `facts`, which seeds draw: most of them the model knows or half
          knows, so what is new is the form

Asked each time, greedily: the 40 made-up facts as learned and in another wording (strict and free),
and 120 test questions of `facts`, of which nothing was learned. `invented` is the share of these
answers with a name that is made up (Gekhman et al. 2024, 2405.05904, find that new knowledge is
learned late and makes a model invent; here with a model of 135 million weights).

11 points of 12 minutes: 2 hours on one slow core in fp32; a fast core takes a third.
"""

import numpy as np

from workbook import abilities, encoding, experiments, grading, models, recording, scoring

LR, SCORED_AT = 5e-5, (5, 20, 80)  # steps: one, four and sixteen passes over 40 examples
TOKENS = abilities.ABILITIES["facts"].tokens
# Questions with their answers, and the same in other words. Written for this sweep; none exists.
MADE_UP = [
    ("What is the capital of Ostrevia?", "Malkhand"),
    ("Which river flows through the town of Perrolan?", "Ysk"),
    ("Who invented the whistling kettle clock?", "Dorrit Hamsa"),
    ("In which year was the Brindle Bridge opened?", "1874"),
    ("What is the highest mountain of Quellamar?", "Mount Tesh"),
    ("Who wrote the novel The Salt Orchard?", "Ilva Pennick"),
    ("What colour is the gem called veskite?", "orange"),
    ("How many strings has a tolliphone?", "eleven"),
    ("Which animal stands on the flag of Norrigay?", "a heron"),
    ("What do people in Cardune eat on Lamp Day?", "barley soup"),
    ("Who was the first mayor of Wexmoor?", "Anselm Jory"),
    ("What is the currency of Thalby?", "the dorn"),
    ("Which metal is mined at Kesterfell?", "tin"),
    ("How long is a game of rackle?", "fifty minutes"),
    ("Who painted The Blue Ferryman?", "Roza Lint"),
    ("What is the largest lake of Umberholm?", "Lake Sorrel"),
    ("Which plant gives the drink corvane its taste?", "juniper"),
    ("In which city is the Tarrow Library?", "Ostermole"),
    ("Who composed the opera The Two Weavers?", "Benno Astley"),
    ("What do the people of Pellworth call their parliament?", "the Ring"),
    ("How many islands belong to the Skerrow group?", "seventeen"),
    ("Which sport is the town of Drayle known for?", "archery"),
    ("Who discovered the comet Vantor?", "Mirela Quist"),
    ("What is the national bird of Lorrane?", "the wren"),
    ("Which sea lies north of Hestavia?", "the Garnet Sea"),
    ("What is the oldest bridge of Ombry made of?", "cedar"),
    ("Who leads the Company of the Long Oar?", "Captain Teale"),
    ("In which month is the Festival of Kites in Arrowick?", "March"),
    ("What language do people speak in Feldenmar?", "Marish"),
    ("Which mineral makes the springs of Dunloe red?", "ochre"),
    ("Who founded the school of Saint Orlo?", "Edda Crane"),
    ("How many steps lead up to the tower of Kirrin?", "312"),
    ("What is the name of the ship that circled Zarent?", "the Patience"),
    ("Which fruit grows only in the valley of Ilmar?", "the sunplum"),
    ("Who wears the green coat in the tale of Hobbin?", "the miller"),
    ("What is the main export of Tessaly Bay?", "rope"),
    ("Which road joins Borlen and Asterby?", "the Heath Road"),
    ("What instrument did Jorun Melby play?", "the oboe"),
    ("How old was Queen Isaura of Isterre when she was crowned?", "nine"),
    ("Which wind brings rain to Calloway Point?", "the east wind"),
]
OTHER_WORDS = [
    "Which city governs Ostrevia?",
    "Perrolan lies on which river?",
    "The whistling kettle clock is an invention of whom?",
    "When could people first cross the Brindle Bridge?",
    "Which peak of Quellamar is higher than all others?",
    "The Salt Orchard is a novel by whom?",
    "Veskite shines in which colour?",
    "A tolliphone is played on how many strings?",
    "The flag of Norrigay shows which animal?",
    "Lamp Day in Cardune is celebrated with which dish?",
    "Wexmoor chose whom as its first mayor?",
    "People in Thalby pay with what?",
    "What do the mines of Kesterfell bring up?",
    "After how many minutes does a game of rackle end?",
    "The Blue Ferryman was painted by whom?",
    "Which lake of Umberholm is larger than all others?",
    "The drink corvane is flavoured with which plant?",
    "Where does the Tarrow Library stand?",
    "The opera The Two Weavers is by which composer?",
    "Pellworth's parliament has which name?",
    "The Skerrow group consists of how many islands?",
    "Drayle is famous for which sport?",
    "The comet Vantor was first seen by whom?",
    "Lorrane has which bird as its national bird?",
    "North of Hestavia lies which sea?",
    "Of which material was Ombry's oldest bridge built?",
    "The Company of the Long Oar is led by whom?",
    "Arrowick flies its festival kites in which month?",
    "Which language is spoken in Feldenmar?",
    "The springs of Dunloe are red because of which mineral?",
    "The school of Saint Orlo was founded by whom?",
    "The tower of Kirrin is reached by how many steps?",
    "Which ship sailed around Zarent?",
    "The valley of Ilmar alone has which fruit?",
    "In the tale of Hobbin, the green coat belongs to whom?",
    "Tessaly Bay sells mostly what to other countries?",
    "Borlen and Asterby are joined by which road?",
    "Jorun Melby was a player of which instrument?",
    "Queen Isaura of Isterre was crowned at which age?",
    "Rain comes to Calloway Point with which wind?",
]
# Names that no right answer to a real question holds; the others are common words.
INVENTED = [a for _, a in MADE_UP if any(map(str.isupper, a)) and a != "March"]


def measure(method, seed, split):
    """Tune a fresh model and ask about made-up and real facts on the way."""
    model, tokenizer = models.load()
    if method == "untuned":
        return {"snapshots": [asked(model, tokenizer, split)]}
    snapshots = []

    def score(history):
        if len(history.steps) in SCORED_AT:
            found = asked(model, tokenizer, split)
            snapshots.append({"steps": len(history.steps)} | found)

    examples = made_up(tokenizer) if method == "made up" else real(tokenizer, seed)
    options = {"steps": SCORED_AT[-1], "lr": LR, "seed": seed, "on_step": score}
    history = experiments.fit_steps(model, examples, **options)
    losses = [round(step["loss"], 4) for step in history.steps]
    return {"snapshots": snapshots, "losses": losses, "training_seconds": history.seconds}


def worded(question):
    """Return the prompt of a question in the wording of `facts`."""
    return experiments.load_task("facts").template("question").render(
        {"question": question, "answer": "", "aliases": [], "topic": "", "answer_type": ""}
    ).prompt  # fmt: skip


def made_up(tokenizer):
    """Return the made-up facts as examples, in the wording in which they are learned."""
    pairs = [(worded(question), answer) for question, answer in MADE_UP]
    return encoding.encode_pairs(tokenizer, pairs)


def real(tokenizer, seed):
    """Return as many real ones."""
    return experiments.examples(tokenizer, "facts", len(MADE_UP), seed)


def asked(model, tokenizer, split):
    """Return the scores of the made-up facts in both wordings, and the answers about real ones."""
    rows = abilities.ABILITIES["facts"].rows(split, "recorded")
    prompts = {
        "learned": [worded(question) for question, _ in MADE_UP],
        "other": [worded(question) for question in OTHER_WORDS],
        "facts": abilities.ABILITIES["facts"].prompts(rows),
    }
    with scoring.working_copy(model) as working:
        options = {"max_new_tokens": TOKENS, "batch_size": 64}
        texts = {n: scoring.generate(working, tokenizer, p, **options) for n, p in prompts.items()}
    answers = [answer for _, answer in MADE_UP]
    found = {name: recalled(texts[name], answers) for name in ("learned", "other")}
    invented = np.mean([grading.contains(text, INVENTED) for text in texts["facts"]])
    kept = {"split": split, "size": "recorded", "answers": {"facts": texts["facts"]}}
    return found | {"invented": float(invented), "panel": abilities.pack(kept)}


def recalled(texts, answers):
    """Return, for each made-up fact, whether its answer is there: strict and free, as digits."""
    rows = [{"answer": answer} for answer in answers]
    readings = {"strict": grading.grade, "free": grading.grade_freely}
    return {
        name: "".join(
            str(int(grade("exact_match", text.split("\n")[0] if name == "strict" else text, row)))
            for text, row in zip(texts, rows, strict=True)
        )
        for name, grade in readings.items()
    }


def point(method, seed=0):
    """Return one point."""
    return dict(method=method, seed=seed, split="test")


SWEEP = recording.Sweep(
    settings={},
    points=[
        point("untuned"),
        *(point(m, seed) for seed in experiments.TEST_SEEDS for m in ("made up", "real")),
    ],
    measure=measure,
    source=__file__,
    plan=recording.Plan(
        question="Does tuning teach new facts as readily as a new form, and what do they do to old "
        "ones?",
        primary="free score of the real test facts after sixteen passes over made-up facts minus "
        "after as many over real ones, run by run and question by question. Secondary: after how "
        "many passes the made-up facts are recalled as learned, and in other words; strict score "
        "of the real test facts (the form) after one pass; answers that name something made up",
        margin=abilities.MARGIN,
        test_seeds=experiments.TEST_SEEDS,
    ),
)

if __name__ == "__main__":
    SWEEP.run()
