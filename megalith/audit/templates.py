"""Sentence pairs that a shortcut gets wrong, after the template descriptions of HANS (McCoy et al. 2019, appendix).

Three heuristics: lexical overlap (all words of the hypothesis are in the premise), subsequence (they stand side by
side), constituent (they are a whole clause of it). Under each are five templates whose hypothesis follows and five
whose does not, so that "always true" scores one half. The words and wordings are our own. The words of each slot are
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
    name: str
    premise: str
    hypothesis: str


TEMPLATES = tuple(
    Template(heuristic, label, *pair)
    for heuristic, label, pairs in (
        (LEXICAL_OVERLAP, NOT_ENTAILED, (
            ("swap", "the {n1} {t1} the {n2}", "the {n2} {t1} the {n1}"),
            ("preposition", "the {n1} {p1} the {n2} {t1} the {n3}", "the {n3} {t1} the {n2}"),
            ("relative clause", "the {n1} who the {n2} {t1} {t2} the {n3}", "the {n3} {t1} the {n2}"),
            ("passive", "the {n1} was {t1} by the {n2}", "the {n1} {t1} the {n2}"),
            ("conjunction", "the {n1} and the {n2} {t1} the {n3}", "the {n1} {t1} the {n2}"),
        )),
        (LEXICAL_OVERLAP, ENTAILED, (
            ("relative clause", "the {n1} who the {n2} {t1} {t2} the {n3}", "the {n2} {t1} the {n1}"),
            ("around preposition", "the {n1} {p1} the {n2} {t1} the {n3}", "the {n1} {t1} the {n3}"),
            ("around relative clause", "the {n1} who {t1} the {n2} {t2} the {n3}", "the {n1} {t2} the {n3}"),
            ("conjunction", "the {n1} {t1} the {n2} and the {n3}", "the {n1} {t1} the {n3}"),
            ("passive", "the {n1} was {t1} by the {n2}", "the {n2} {t1} the {n1}"),
        )),
        (SUBSEQUENCE, NOT_ENTAILED, (
            ("object or subject", "the {n1} {b1} the {n2} {i1}", "the {n1} {b1} the {n2}"),
            ("preposition on subject", "the {n1} {p1} the {n2} {i1}", "the {n2} {i1}"),
            ("relative clause on subject", "the {n1} who {t1} the {n2} {i1}", "the {n2} {i1}"),
            ("participle", "the {n1} {r1} in the {l1} {i1}", "the {n1} {r1} in the {l1}"),
            ("object or next subject", "before the {n1} {z1} the {n2} {i1}", "the {n1} {z1} the {n2}"),
        )),
        (SUBSEQUENCE, ENTAILED, (
            ("conjunction", "the {n1} and the {n2} {i1}", "the {n2} {i1}"),
            ("adjective", "{a1} {m1} {i1}", "{m1} {i1}"),
            ("understood object", "the {n1} {o1[0]} {o1[1]}", "the {n1} {o1[0]}"),
            ("relative clause on object", "the {n1} {t1} the {n2} who {t2} the {n3}", "the {n1} {t1} the {n2}"),
            ("preposition on object", "the {n1} {t1} the {n2} {p1} the {l1}", "the {n1} {t1} the {n2}"),
        )),
        (CONSTITUENT, NOT_ENTAILED, (
            ("under if", "{u1} the {n1} {i1}, the {n2} {t1} the {n3}", "the {n1} {i1}"),
            ("after if", "{u1} the {n1} {t1} the {n2}, the {n3} {i1}", "the {n3} {i1}"),
            ("under verb", "the {n1} {h1} that the {n2} {i1}", "the {n2} {i1}"),
            ("disjunction", "the {n1} {i1}, or the {n2} {t1} the {n3}", "the {n2} {t1} the {n3}"),
            ("adverb", "{d1} the {n1} {t1} the {n2}", "the {n1} {t1} the {n2}"),
        )),
        (CONSTITUENT, ENTAILED, (
            ("under since", "{s1} the {n1} {i1}, the {n2} {t1} the {n3}", "the {n1} {i1}"),
            ("after since", "{s1} the {n1} {t1} the {n2}, the {n3} {i1}", "the {n3} {i1}"),
            ("under verb", "the {n1} {k1} that the {n2} {i1}", "the {n2} {i1}"),
            ("conjunction", "the {n1} {i1}, and the {n2} {t1} the {n3}", "the {n2} {t1} the {n3}"),
            ("adverb", "{c1} the {n1} {t1} the {n2}", "the {n1} {t1} the {n2}"),
        )),
    )
    for pair in pairs
)  # fmt: skip
