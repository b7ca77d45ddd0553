"""Questions of the generation probes: riddles, clues, hidden operators, a function to write, beginnings of texts.

The kinds are those of the MT-NLG paper; the questions are our own or common property.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Probe:
    """A prompt, and the words by one of which an answer is known to be right (none: only to be read)."""

    name: str
    prompt: str
    accepted: tuple[str, ...] = ()


_RIDDLE = "Question: What has hands but cannot clap?\nAnswer: A clock.\n\nQuestion: {}\nAnswer:"
RIDDLES = tuple(
    Probe(f"riddle {accepted[0]}", _RIDDLE.format(question), accepted)
    for question, accepted in (
        ("What has a neck but no head?", ("bottle",)),
        ("What gets wetter the more it dries?", ("towel",)),
        ("What has keys but opens no locks?", ("piano",)),
        ("I have cities but no houses, forests but no trees, and water but no fish. What am I?", ("map",)),
        ("The more you take, the more you leave behind. What are they?", ("footsteps", "steps", "footprints")),
        ("What can travel around the world while staying in a corner?", ("stamp",)),
    )
)

_CLUE = "Category: Planets\nClue: It is known as the red planet.\nAnswer: Mars\n\nCategory: {}\nClue: {}\nAnswer:"
CLUES = tuple(
    Probe(f"clue {accepted[0]}", _CLUE.format(category, clue), accepted)
    for category, clue, accepted in (
        ("Capitals", "This city on the Seine is the capital of France.", ("paris",)),
        ("Authors", "He wrote Hamlet and Romeo and Juliet.", ("shakespeare",)),
        ("Chemistry", "This metal has the symbol Au.", ("gold",)),
        ("Animals", "The largest animal that ever lived.", ("blue whale", "whale")),
        ("Inventions", "Alexander Graham Bell was given a patent for it in 1876.", ("telephone", "phone")),
        ("Oceans", "The largest and deepest of the oceans.", ("pacific",)),
    )
)

OPERATORS = (
    Probe("operator +", "3 @ 4 = 7\n10 @ 5 = 15\n8 @ 1 = 9\n6 @ 6 = 12\n7 @ 4 =", ("11",)),
    Probe("operator -", "9 @ 4 = 5\n10 @ 3 = 7\n8 @ 1 = 7\n16 @ 6 = 10\n7 @ 4 =", ("3",)),
    Probe("operator *", "3 @ 4 = 12\n10 @ 5 = 50\n8 @ 1 = 8\n6 @ 6 = 36\n7 @ 4 =", ("28",)),
    Probe("operator 2a + b", "3 @ 4 = 10\n10 @ 5 = 25\n8 @ 1 = 17\n6 @ 6 = 18\n7 @ 4 =", ("18",)),
)
"""The sign stands for an operation that must be inferred; the next line's right side is asked."""

CODE = (
    "# Compute the Levenshtein distance between two strings a and b: the smallest number of insertions, deletions\n"
    "# and substitutions of single characters that turn a into b.\n"
    "def levenshtein(a, b):\n"
)
FUNCTION = "levenshtein"
CASES = (
    (("", ""), 0),
    (("same", "same"), 0),
    (("", "abc"), 3),
    (("abc", ""), 3),
    (("kitten", "sitting"), 3),
    (("flaw", "lawn"), 2),
    (("intention", "execution"), 5),
    (("ab", "ba"), 2),
)
"""Arguments and right results."""

WRITING = (
    Probe("news", "LONDON, March 3 - The government said on Monday that"),
    Probe("story", "Once upon a time, in a village between two mountains, there lived"),
    Probe("poem", "The Lighthouse\n\nAll night the lamp turns slowly on the stone,\n"),
    Probe("essay", "The most important thing about reading a book twice is"),
)
