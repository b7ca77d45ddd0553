"""Sentence pairs that a shortcut gets wrong, after the template descriptions of HANS (McCoy et al. 2019, appendix).

Three heuristics: lexical overlap (all words of the hypothesis are in the premise), subsequence (they stand side by
side), constituent (they are a whole clause of it). Under each are five sub-cases whose hypothesis follows and five
whose does not, so that "always true" scores one half; each has two templates. The sub-cases and their names are the
official ones, in the official order (subcases 0 … 29); words and wordings are our own. The words of each slot are
chosen so that the label holds for all of them: what is done to somebody is not at once done back (as met, married), a
verb before a clause that need not be so is believed and not knew, and so on.

A slot is a letter, for its word list, and a number: {n1} and {n2} are two different nouns.
"""

from dataclasses import dataclass

LEXICAL_OVERLAP, SUBSEQUENCE, CONSTITUENT = "lexical_overlap", "subsequence", "constituent"
HEURISTICS = (LEXICAL_OVERLAP, SUBSEQUENCE, CONSTITUENT)
ENTAILED, NOT_ENTAILED = "entailment", "non-entailment"
LABELS = (ENTAILED, NOT_ENTAILED)

WORDS: dict[str, tuple[str, ...] | tuple[tuple[str, str], ...]] = {
    # people; singular, and their plurals
    "n": (
        "baker", "pilot", "nurse", "farmer", "singer", "painter", "sailor", "miller", "waiter", "dentist",
        "plumber", "librarian", "gardener", "tailor", "driver", "soldier", "teacher", "hunter", "builder", "weaver",
    ),
    "m": (
        "bakers", "pilots", "nurses", "farmers", "singers", "painters", "sailors", "waiters", "dentists", "plumbers",
        "gardeners", "drivers", "soldiers", "teachers", "hunters", "weavers",
    ),
    # done to somebody, and not by that at once done back; past tense and participle are one form
    "t": (
        "watched", "praised", "blamed", "rescued", "interrupted", "greeted", "admired", "thanked", "scolded",
        "followed", "trusted", "mocked",
    ),
    "i": ("slept", "laughed", "shouted", "arrived", "waited", "coughed", "smiled", "danced", "vanished", "yawned"),
    "a": ("tired", "clever", "lonely", "nervous", "cheerful", "elderly", "hungry", "polite"),
    "p": ("near", "behind", "beside", "opposite"),
    # places
    "l": ("garden", "station", "harbour", "kitchen", "hospital", "village", "market", "workshop"),
    # somebody was V-ed in a place; or, with no object, somebody V-ed there
    "r": ("paid", "helped", "studied", "washed", "searched", "called"),
    # after the conjunction, with or without an object
    "z": ("washed", "moved", "hid", "stopped", "returned"),
    # before a clause: the speaker's belief, and somebody can be its object
    "b": ("believed", "doubted", "feared", "suspected"),
    # before a that-clause: not known to be so; known to be so
    "h": ("hoped", "claimed", "thought", "said", "believed", "suspected"),
    "k": ("knew", "remembered", "forgot", "realised", "discovered", "regretted"),
    # a verb and its object, which it can do without
    "o": (
        ("ate", "the soup"), ("read", "the letter"), ("painted", "the fence"), ("sang", "the ballad"),
        ("cooked", "the fish"), ("drank", "the tea"), ("knitted", "the scarf"), ("baked", "the bread"),
    ),
    "d": ("perhaps", "probably", "supposedly", "possibly", "allegedly"),
    "c": ("certainly", "clearly", "obviously", "undoubtedly", "unfortunately"),
    "u": ("if", "unless"),
    "s": ("because", "since", "although", "while"),
}  # fmt: skip


@dataclass(frozen=True)
class Template:
    """A sentence pair with slots; capitals and full stops are added later."""

    heuristic: str
    label: str
    subcase: str
    name: str
    """Unique within the sub-case."""
    premise: str
    hypothesis: str


TEMPLATES = tuple(
    Template(heuristic, label, subcase, f"temp{number}", premise, hypothesis)
    for heuristic, label, subcases in (
        (LEXICAL_OVERLAP, NOT_ENTAILED, {
            "ln_subject/object_swap": (
                ("the {n1} {t1} the {n2}", "the {n2} {t1} the {n1}"),
                ("the {m1} {t1} the {n1}", "the {n1} {t1} the {m1}"),
            ),
            "ln_preposition": (
                ("the {n1} {p1} the {n2} {t1} the {n3}", "the {n3} {t1} the {n2}"),
                ("the {n1} {t1} the {n2} {p1} the {n3}", "the {n3} {t1} the {n1}"),
            ),
            "ln_relative_clause": (
                ("the {n1} who the {n2} {t1} {t2} the {n3}", "the {n3} {t1} the {n2}"),
                ("the {n1} {t1} the {n2} who {t2} the {n3}", "the {n3} {t2} the {n1}"),
            ),
            "ln_passive": (
                ("the {n1} was {t1} by the {n2}", "the {n1} {t1} the {n2}"),
                ("the {m1} were {t1} by the {n1}", "the {m1} {t1} the {n1}"),
            ),
            "ln_conjunction": (
                ("the {n1} and the {n2} {t1} the {n3}", "the {n1} {t1} the {n2}"),
                ("the {n1} {t1} the {n2} and the {n3}", "the {n2} {t1} the {n3}"),
            ),
        }),
        (LEXICAL_OVERLAP, ENTAILED, {
            "le_relative_clause": (
                ("the {n1} who the {n2} {t1} {t2} the {n3}", "the {n2} {t1} the {n1}"),
                ("the {n1} {t1} the {n2} who the {n3} {t2}", "the {n3} {t2} the {n2}"),
            ),
            "le_around_prepositional_phrase": (
                ("the {n1} {p1} the {n2} {t1} the {n3}", "the {n1} {t1} the {n3}"),
                ("the {n1} {p1} the {l1} {i1}", "the {n1} {i1}"),
            ),
            "le_around_relative_clause": (
                ("the {n1} who {t1} the {n2} {t2} the {n3}", "the {n1} {t2} the {n3}"),
                ("the {n1} who the {n2} {t1} {i1}", "the {n1} {i1}"),
            ),
            "le_conjunction": (
                ("the {n1} {t1} the {n2} and the {n3}", "the {n1} {t1} the {n3}"),
                ("the {n1} and the {n2} {t1} the {n3}", "the {n1} {t1} the {n3}"),
            ),
            "le_passive": (
                ("the {n1} was {t1} by the {n2}", "the {n2} {t1} the {n1}"),
                ("the {m1} were {t1} by the {n1}", "the {n1} {t1} the {m1}"),
            ),
        }),
        (SUBSEQUENCE, NOT_ENTAILED, {
            "sn_NP/S": (
                ("the {n1} {b1} the {n2} {i1}", "the {n1} {b1} the {n2}"),
                ("the {n1} {b1} the {n2} {t1} the {n3}", "the {n1} {b1} the {n2}"),
            ),
            "sn_PP_on_subject": (
                ("the {n1} {p1} the {n2} {i1}", "the {n2} {i1}"),
                ("the {n1} {p1} the {n2} {t1} the {n3}", "the {n2} {t1} the {n3}"),
            ),
            "sn_relative_clause_on_subject": (
                ("the {n1} who {t1} the {n2} {i1}", "the {n2} {i1}"),
                ("the {n1} who {t1} the {n2} {t2} the {n3}", "the {n2} {t2} the {n3}"),
            ),
            "sn_past_participle": (
                ("the {n1} {r1} in the {l1} {i1}", "the {n1} {r1} in the {l1}"),
                ("the {n1} {r1} in the {l1} {t1} the {n2}", "the {n1} {r1} in the {l1}"),
            ),
            "sn_NP/Z": (
                ("before the {n1} {z1} the {n2} {i1}", "the {n1} {z1} the {n2}"),
                ("after the {n1} {z1} the {n2} {t1} the {n3}", "the {n1} {z1} the {n2}"),
            ),
        }),
        (SUBSEQUENCE, ENTAILED, {
            "se_conjunction": (
                ("the {n1} and the {n2} {i1}", "the {n2} {i1}"),
                ("the {n1} and the {n2} {t1} the {n3}", "the {n2} {t1} the {n3}"),
            ),
            "se_adjective": (
                ("{a1} {m1} {i1}", "{m1} {i1}"),
                ("{a1} {m1} {t1} the {n1}", "{m1} {t1} the {n1}"),
            ),
            "se_understood_object": (
                ("the {n1} {o1[0]} {o1[1]}", "the {n1} {o1[0]}"),
                ("the {m1} {o1[0]} {o1[1]}", "the {m1} {o1[0]}"),
            ),
            "se_relative_clause_on_obj": (
                ("the {n1} {t1} the {n2} who {t2} the {n3}", "the {n1} {t1} the {n2}"),
                ("the {n1} {t1} the {n2} who {i1}", "the {n1} {t1} the {n2}"),
            ),
            "se_PP_on_obj": (
                ("the {n1} {t1} the {n2} {p1} the {l1}", "the {n1} {t1} the {n2}"),
                ("the {n1} {t1} the {n2} {p1} the {n3}", "the {n1} {t1} the {n2}"),
            ),
        }),
        (CONSTITUENT, NOT_ENTAILED, {
            "cn_embedded_under_if": (
                ("{u1} the {n1} {i1}, the {n2} {t1} the {n3}", "the {n1} {i1}"),
                ("{u1} the {n1} {t1} the {n2}, the {n3} {i1}", "the {n1} {t1} the {n2}"),
            ),
            "cn_after_if_clause": (
                ("{u1} the {n1} {t1} the {n2}, the {n3} {i1}", "the {n3} {i1}"),
                ("{u1} the {n1} {i1}, the {n2} {t1} the {n3}", "the {n2} {t1} the {n3}"),
            ),
            "cn_embedded_under_verb": (
                ("the {n1} {h1} that the {n2} {i1}", "the {n2} {i1}"),
                ("the {n1} {h1} that the {n2} {t1} the {n3}", "the {n2} {t1} the {n3}"),
            ),
            "cn_disjunction": (
                ("the {n1} {i1}, or the {n2} {t1} the {n3}", "the {n2} {t1} the {n3}"),
                ("the {n1} {i1}, or the {n2} {t1} the {n3}", "the {n1} {i1}"),
            ),
            "cn_adverb": (
                ("{d1} the {n1} {t1} the {n2}", "the {n1} {t1} the {n2}"),
                ("{d1} the {n1} {i1}", "the {n1} {i1}"),
            ),
        }),
        (CONSTITUENT, ENTAILED, {
            "ce_embedded_under_since": (
                ("{s1} the {n1} {i1}, the {n2} {t1} the {n3}", "the {n1} {i1}"),
                ("{s1} the {n1} {t1} the {n2}, the {n3} {i1}", "the {n1} {t1} the {n2}"),
            ),
            "ce_after_since_clause": (
                ("{s1} the {n1} {t1} the {n2}, the {n3} {i1}", "the {n3} {i1}"),
                ("{s1} the {n1} {i1}, the {n2} {t1} the {n3}", "the {n2} {t1} the {n3}"),
            ),
            "ce_embedded_under_verb": (
                ("the {n1} {k1} that the {n2} {i1}", "the {n2} {i1}"),
                ("the {n1} {k1} that the {n2} {t1} the {n3}", "the {n2} {t1} the {n3}"),
            ),
            "ce_conjunction": (
                ("the {n1} {i1}, and the {n2} {t1} the {n3}", "the {n2} {t1} the {n3}"),
                ("the {n1} {i1}, and the {n2} {t1} the {n3}", "the {n1} {i1}"),
            ),
            "ce_adverb": (
                ("{c1} the {n1} {t1} the {n2}", "the {n1} {t1} the {n2}"),
                ("{c1} the {n1} {i1}", "the {n1} {i1}"),
            ),
        }),
    )
    for subcase, pairs in subcases.items()
    for number, (premise, hypothesis) in enumerate(pairs, start=1)
)  # fmt: skip

SUBCASES = tuple(dict.fromkeys((one.heuristic, one.label, one.subcase) for one in TEMPLATES))
"""Heuristic, label and name of the sub-cases; the official example exN is of sub-case N // 1000."""
