"""Scrambled words as in GPT-3 §3.9.2, made on the spot: five kinds, from a list of common words.

The letters of a word are turned round (cycled), all but its first and last letter are shuffled, or all but its first
two and last two; a mark stands after each letter; or the word is written backwards.
"""

from collections.abc import Callable, Iterator

from megalith.evaluation.answers import first_line
from megalith.evaluation.document import Document
from megalith.evaluation.formats import Record
from megalith.evaluation.prompts import generated
from megalith.evaluation.task import Task
from megalith.inference.draws import draw, keyed_hash

_COMMON = """
    account active address advance afraid afternoon against airport allowed already although always ancient animal
    another answer anyone apple article artist attack author autumn average balance basket battle beautiful because
    become before behind believe benefit between beyond bicycle blanket border bottle bottom bread bridge bright
    brother brought building business butter button camera capital careful carpet castle caught center central
    century certain chance change charge cheese chicken children choice church circle citizen climate clothes coffee
    college colour comfort common company complete concert condition contain continue control correct cotton country
    courage course cousin create cricket crowd culture curtain customer danger daughter decide degree depend desert
    design destroy develop different difficult dinner direction discover distance doctor dollar double dream during
    earth eastern economy education effect effort either electric elephant empire energy engine enough entire escape
    evening event example except exercise expect explain express famous farmer father feather feeling fellow female
    fifteen figure finger finish flight flower follow foreign forest forget forward freedom friend frozen future
    garden gather general gentle glass golden government grand greater ground guard guest guitar happen harbour
    health heart heaven heavy height history holiday honest horse hospital hotel house human hundred hungry husband
    image important include increase indeed industry inside instead interest invite island itself journey judge
    justice kitchen knife knowledge ladder language large laugh leader learn leather leave letter level library
    light likely liquid listen little lively local lunch machine manage manner market marriage master material
    matter meaning measure medicine meeting member memory message method middle minute mirror mistake modern moment
    money month morning mother motor mountain mouse movement murder museum music narrow nation nature nearly needle
    neither nephew night normal north notice number object ocean office officer orange orchard order ordinary other
    outside owner painter palace paper parent partner party passage patient pattern peace pencil people perfect
    perhaps person picture piece planet plant plastic player please pleasure pocket point police popular position
    possible potato powder power practice prepare present pretty price prince prison private problem produce promise
    protect provide public purpose question quick quiet rabbit rather reach reader reason receive record region
    remember repeat report rescue respect result return river rocket round rubber running sailor salad sample school
    science season second secret section sentence serious servant service seven several shadow shape share sheep
    shelter should shoulder shout silence silver similar simple singer single sister situation skill sleep small
    smile smoke society soldier someone south space speak special spirit spring square stable stage station steam
    still stomach stone storm story strange street strong student study subject success sudden sugar summer supper
    supply support surface surprise sweet system table taste teacher theatre theory thick thing thirty though
    thought thousand through thunder ticket tiger timber today together tomorrow tongue tooth touch toward tower
    traffic train travel treasure trouble tunnel twelve twenty uncle under understand uniform until upper useful
    usual valley value various vegetable village violin visit visitor voice volume waiter water weather wedding
    weight welcome western wheel whether while white whole window winter without woman wonder wooden world worth
    write yellow yesterday young
"""
WORDS = tuple(_COMMON.split())
_MARKS = tuple("!\"#$%&'()*+,-./:;<=>?@")


def _cycled(word: str, seed: int) -> str:
    turn = 1 + keyed_hash(seed, f"cycle/{word}") % (len(word) - 1)
    return word[turn:] + word[:turn]


def _shuffled(word: str, seed: int, kept: int) -> str:
    middle = word[kept:-kept]
    order = draw(seed, f"shuffle-{kept}/{word}", range(len(middle)), len(middle))
    return word[:kept] + "".join(middle[place] for place in order) + word[-kept:]


def _marked(word: str, seed: int) -> str:
    marks = [_MARKS[keyed_hash(seed, f"mark/{word}/{at}") % len(_MARKS)] for at in range(len(word) - 1)]
    return "".join(letter + mark for letter, mark in zip(word, [*marks, ""], strict=True))


KINDS: dict[str, Callable[[str, int], str]] = {
    "cycled": _cycled,
    "middle_shuffled": lambda word, seed: _shuffled(word, seed, 1),
    "middle_shuffled_2": lambda word, seed: _shuffled(word, seed, 2),
    "marked": _marked,
    "reversed": lambda word, seed: word[::-1],
}


def make(seed: int) -> Iterator[Record]:
    """A hundred words of each kind, none of which the scrambling left as it was; the kinds in turn."""
    drawn = {}
    for kind, scramble in KINDS.items():
        fit = [word for word in WORDS if scramble(word, seed) != word]
        drawn[kind] = [fit[place] for place in draw(seed, kind, range(len(fit)), 100)]
    for at in range(100):
        for place, (kind, scramble) in enumerate(KINDS.items()):
            word = drawn[kind][at]
            values = {"kind": kind, "word": word, "scrambled": scramble(word, seed)}
            yield Record(values, f"{kind}, word {at + 1}", at * len(KINDS) + place)


def _document(record: Record) -> Document:
    kind, word = record.text("kind"), record.text("word")
    return generated(f"{record.text('scrambled')} =", (word,), id=f"{kind}-{word}", fields={"kind": kind})


UNSCRAMBLING = Task(
    name="unscrambling",
    kind="generate",
    about="common words whose letters are scrambled in five ways, made on the spot",
    paper="after Brown et al. 2020, arXiv 2005.14165, §3.9.2",
    licence="the project's own",
    prompts={"gpt3": _document},
    make=make,
    separator="\n",
    shots_like="kind",
    by=("kind",),
    extract=first_line,
)
