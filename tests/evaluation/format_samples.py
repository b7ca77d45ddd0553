"""Questions of each official format, written by hand: task, wording, files, prompt, answers, place of the right one."""

import json
from pathlib import Path
from typing import Any

AI2_FLAT = {
    "id": "q1",
    "question": "What melts?",
    "choices": {"text": ["ice", "iron"], "label": ["A", "B"]},
    "answerKey": "A",
}
AI2_NESTED = {
    "id": "q1",
    "question": {"stem": "What melts?", "choices": [{"text": "ice", "label": "1"}, {"text": "iron", "label": "2"}]},
    "answerKey": "2",
}
RACE = {
    "article": "A cat sat.",
    "questions": ["Who sat?", "It was   _  ."],
    "options": [["a dog", "a cat", "a cow", "a hen"], ["big", "fat", "a cat", "red"]],
    "answers": ["B", "C"],
}
HANS = {
    "gold_label": "non-entailment",
    "sentence1": "The doctor saw the actor .",
    "sentence2": "The actor saw the doctor .",
    "pairID": "ex0",
    "heuristic": "lexical_overlap",
    "subcase": "ln_swap",
    "template": "temp1",
}
WSC = {
    "text": "Anna , a baker , did n't see Eve because she slept .",
    "label": "false",
    "idx": 3,
    "target": {"span1_text": "Eve", "span1_index": 7, "span2_text": "she", "span2_index": 10},
}
TRIVIA = {
    "Question": "Who?",
    "QuestionId": "tc_1",
    "Answer": {"Value": "The Beatles", "Aliases": ["Beatles"], "NormalizedAliases": []},
}
BOOLQ = {"question": "is it so", "passage": "Title -- It is so.", "label": True}

CASES: list[tuple[str, str, dict[str, Any], str, tuple[str, ...], int]] = [
    ("lambada", "", {"lambada/lambada_test.jsonl": {"text": "He saw the dog"}}, "He saw the", (" dog",), 0),
    (
        "lambada",
        "gpt3",
        {"lambada/lambada_test.jsonl": {"text": "He saw the dog"}},
        "He saw the ____. ->",
        (" dog",),
        0,
    ),
    (
        "race_high",
        "",
        {"race/test_high.jsonl": RACE},
        "Article:\nA cat sat.\n\nQ: Who sat?\n\nA:",
        (" a dog", " a cat", " a cow", " a hen"),
        1,
    ),
    (
        "race_high",
        "letter",
        {"RACE/test/high/1.txt": RACE},
        "Article: A cat sat.\n\nQuestion: Who sat?\nA. a dog\nB. a cat\nC. a cow\nD. a hen\nAnswer:",
        (" A", " B", " C", " D"),
        1,
    ),
    ("boolq", "", {"boolq/val.jsonl": BOOLQ}, "Title -- It is so.\nQuestion: is it so?\nAnswer:", (" no", " yes"), 1),
    ("boolq", "gpt3", {"val.jsonl": BOOLQ}, "Title -- It is so.\nquestion: is it so?\nanswer:", (" no", " yes"), 1),
    (
        "piqa",
        "",
        {"piqa/valid.jsonl": {"goal": "sit", "sol1": "stand", "sol2": "use a chair"}, "piqa/valid-labels.lst": "1\n"},
        "Question: sit\nAnswer:",
        (" stand", " use a chair"),
        1,
    ),
    (
        "hellaswag",
        "",
        {
            "hellaswag/val.jsonl": {
                "ind": 1,
                "activity_label": "Baking",
                "ctx_a": "[header] A man [title] bakes.",
                "ctx_b": "he",
                "label": 2,
                "endings": ["x.", "y [step] z.", "w.", "v."],
            }
        },
        "Baking: A man. bakes. He",
        (" x.", " y z.", " w.", " v."),
        2,
    ),
    (
        "winogrande",
        "",
        {
            "winogrande/dev.jsonl": {
                "sentence": "Ann told Eve that _ slept.",
                "option1": "Ann",
                "option2": "Eve",
                "answer": "2",
            }
        },
        "Ann told Eve that ",
        (" slept.", " slept."),
        1,
    ),
    (
        "anli_r2",
        "",
        {"anli/R2_test.jsonl": {"uid": "u", "context": "It rains.", "hypothesis": "It is dry.", "label": "c"}},
        "It rains.\nQuestion: It is dry. True, False, or Neither?\nAnswer:",
        (" True", " Neither", " False"),
        2,
    ),
    (
        "hans",
        "",
        {"hans/heuristics_evaluation_set.jsonl": HANS},
        "The doctor saw the actor .\nQuestion: The actor saw the doctor . True or False?\nAnswer:",
        (" True", " False"),
        1,
    ),
    (
        "hans",
        "",
        {"hans/heuristics_evaluation_set.txt": "\t".join(HANS) + "\n" + "\t".join(HANS.values()) + "\n"},
        "The doctor saw the actor .\nQuestion: The actor saw the doctor . True or False?\nAnswer:",
        (" True", " False"),
        1,
    ),
    (
        "rte",
        "",
        {"RTE/val.jsonl": {"premise": "It rains.", "hypothesis": "It is dry.", "label": "not_entailment", "idx": 0}},
        "It rains.\nQuestion: It is dry. True or False?\nAnswer:",
        (" True", " False"),
        1,
    ),
    (
        "cb",
        "gpt3",
        {"CB/val.jsonl": {"premise": "It may rain.", "hypothesis": "it rains", "label": "neutral", "idx": 0}},
        "It may rain.\nquestion: it rains. true, false, or neither?\nanswer:",
        (" true", " false", " neither"),
        2,
    ),
    (
        "wic",
        "",
        {
            "WiC/val.jsonl": {
                "word": "bank",
                "sentence1": "The banks.",
                "sentence2": "A bank.",
                "start1": 4,
                "end1": 9,
                "label": True,
                "idx": 0,
            }
        },
        "Sentence 1: The banks.\nSentence 2: A bank.\nQuestion: Is the word 'banks' used in the same way in the two "
        "sentences above?\nAnswer:",
        (" no", " yes"),
        1,
    ),
    (
        "wsc",
        "",
        {"WSC/val.jsonl": WSC},
        "Passage: Anna, a baker, didn't see Eve because *she* slept.\nQuestion: In the passage above, does the pronoun "
        '"*she*" refer to "*Eve*"?\nAnswer:',
        (" no", " yes"),
        0,
    ),
    (
        "copa",
        "",
        {
            "COPA/val.jsonl": {
                "premise": "It rained.",
                "choice1": "The sun shone.",
                "choice2": "He got wet.",
                "question": "effect",
                "label": 1,
                "idx": 0,
            }
        },
        "It rained therefore",
        (" the sun shone.", " he got wet."),
        1,
    ),
    ("arc_easy", "", {"arc/ARC-Easy-Test.jsonl": AI2_NESTED}, "Question: What melts?\nAnswer:", (" ice", " iron"), 1),
    (
        "arc_challenge",
        "letter",
        {"arc/ARC-Challenge-validation.jsonl": AI2_FLAT},
        "Question: What melts?\nA. ice\nB. iron\nAnswer:",
        (" A", " B"),
        0,
    ),
    ("openbookqa", "", {"openbookqa/test.jsonl": AI2_NESTED}, "What melts?", (" ice", " iron"), 1),
    (
        "openbookqa",
        "question",
        {
            "openbookqa/test.tsv": "ID\tQuestion Stem\tChoices\tComplete Question\tAnswer Key\n"
            "1\tIt is\t(A) a (B) b c (C) d (D) e\tx\tB\n"
        },
        "Question: It is\nAnswer:",
        (" a", " b c", " d", " e"),
        1,
    ),
    (
        "commonsense_qa",
        "",
        {"commonsense_qa/dev_rand_split.jsonl": AI2_FLAT},
        "Question: What melts?\nA. ice\nB. iron\nAnswer:",
        (" A", " B"),
        0,
    ),
    (
        "siqa",
        "",
        {
            "siqa/validation.jsonl": {
                "context": "Al fell.",
                "question": "How is Al?",
                "answerA": "hurt",
                "answerB": "glad",
                "answerC": "gone",
                "label": "1",
            }
        },
        "Q: Al fell. How is Al?\nA:",
        (" hurt", " glad", " gone"),
        0,
    ),
    (
        "sciq",
        "",
        {
            "sciq/test.jsonl": {
                "question": "What?",
                "support": "Ice melts.",
                "distractor1": "a",
                "distractor2": "b",
                "distractor3": "c",
                "correct_answer": "ice",
            }
        },
        "Ice melts.\nQuestion: What?\nAnswer:",
        (" a", " b", " c", " ice"),
        3,
    ),
    (
        "mmlu",
        "",
        {"mmlu/data/test/high_school_biology_test.csv": '"What, then?",a,b,c,d,C\n'},
        "What, then?\nA. a\nB. b\nC. c\nD. d\nAnswer:",
        (" A", " B", " C", " D"),
        2,
    ),
    (
        "mmlu",
        "cloze",
        {"mmlu/data/test/x_test.csv": "Why?,a,b,c,d,C\n"},
        "Question: Why?\nAnswer:",
        (" a", " b", " c", " d"),
        2,
    ),
    (
        "gsm8k",
        "",
        {"gsm8k/test.jsonl": {"question": "1+1?", "answer": "It is 2.\n#### 2"}},
        "Question: 1+1?\nAnswer:",
        ("2",),
        0,
    ),
    (
        "blimp",
        "",
        {
            "blimp/data/x.jsonl": {
                "sentence_good": "He sits.",
                "sentence_bad": "He sit.",
                "UID": "x",
                "pairID": "0",
                "field": "syntax",
            }
        },
        "",
        ("He sits.", "He sit."),
        0,
    ),
    (
        "triviaqa",
        "",
        {"triviaqa/unfiltered-web-dev.json": {"Data": [TRIVIA]}},
        "Q: Who?\nA:",
        ("The Beatles", "Beatles"),
        0,
    ),
    (
        "nq_open",
        "",
        {"nq_open/NQ-open.dev.jsonl": {"question": "who was it", "answer": ["Ada", "A. L."]}},
        "Q: who was it?\n\nA:",
        ("Ada", "A. L."),
        0,
    ),
    (
        "webquestions",
        "",
        {
            "webquestions/webquestions.examples.test.json": [
                {"utterance": "who?", "targetValue": '(list (description "Ann Lee") (description Bo))'}
            ]
        },
        "Q: who?\n\nA:",
        ("Ann Lee", "Bo"),
        0,
    ),
    (
        "jeopardy",
        "",
        {
            "jeopardy/jeopardy.jsonl": {
                "category": "x",
                "query": "Category: X\nQuestion: it\nAnswer:",
                "answer": "a tree",
            }
        },
        "Category: X\nQuestion: it\nAnswer:",
        ("a tree",),
        0,
    ),
    (
        "sst2",
        "",
        {"sst2/dev.tsv": 'sentence\tlabel\na "fine" film \t1\n'},
        'a "fine" film \nQuestion: Is this sentence positive or negative?\nAnswer:',
        (" negative", " positive"),
        1,
    ),
    (
        "two_digit_addition",
        "",
        {
            "gpt3_synthetic/two_digit_addition.jsonl": {
                "context": "\n\nQ: What is 98 plus 45?\n\nA:",
                "completion": " 143",
            }
        },
        "Q: What is 98 plus 45?\n\nA:",
        ("143",),
        0,
    ),
    (
        "reversed_words",
        "",
        {"gpt3_synthetic/reversed_words.jsonl": {"context": "\ntac =", "completion": " cat"}},
        "tac =",
        ("cat",),
        0,
    ),
]


def lay(directory: Path, files: dict[str, Any]) -> Path:
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return directory
