"""Documents that can only be continued by looking far back, made from ordinary prose.

Three kinds, each running text of a book with things planted in it that are asked for later:

  needle   sentences that give a person a word nobody could guess; later each of them again
  repeat   passages, other text, and the passages again, announced
  ledger   a list of names and numbers; later its lines in another order

`document` makes one with several questions at all distances, for training; `probe` one with a single question at a given
distance, cut before the answer. `drill` makes short texts most of which has occurred before: a small model that reads novels
alone does not learn to look back in tens of millions of tokens, since that seldom pays there. All randomness comes from the
generator or the seed that is passed in. Used by novella_data.py and scribe_data.py.
"""

import bisect
import itertools
import math
import random
import re

NAMES = """Abel Ada Agnes Albert Alice Ambrose Amelia Arthur Barnaby Beatrice Bertha Caroline Catherine Cecil Charlotte
Clara Clement Cyril Daniel Dorothea Edgar Edith Edmund Edwin Eleanor Eliza Emily Ernest Esther Eustace Fanny Felix
Florence Frederick Gabriel Gertrude Gilbert Godfrey Grace Harriet Helen Herbert Hester Horace Hubert Isabel Jasper Jerome
Josephine Julian Laura Lavinia Leonard Lewis Lucius Lucy Lydia Mabel Margaret Martha Matilda Maurice Miriam Nathaniel
Nicholas Octavia Oliver Oscar Penelope Percival Philip Phoebe Rachel Ralph Reginald Rosamond Rupert Ruth Samuel Septimus
Silas Simon Sophia Stephen Susan Sylvia Theodore Ursula Valentine Victor Violet Walter Winifred""".split()
SURNAMES = """Allgood Ashby Barlow Beckett Bellamy Blythe Bramley Burchell Caldwell Carew Chaloner Cotterell Crewe Dacre
Denham Drummond Elwood Fairfax Farrant Fenwick Gascoigne Gilroy Graves Hallam Harcourt Hawtrey Holt Jocelyn Kemble
Langley Lestrange Lovell Maitland Marsden Merivale Mowbray Nettleship Norreys Orme Osgood Paget Pelham Quentin Radcliffe
Ravenel Rushton Saltmarsh Selwyn Stanhope Tarrant Thorold Tremaine Underhill Vane Venner Wardour Wetherby Yorke""".split()
WORDS = """amber anchor anvil apple arrow barley basket beacon bell bramble bridle bronze button candle canvas castle
cedar cherry cinder clover cobalt copper coral cotton cradle crimson crystal dagger daisy ebony ember falcon feather
fiddle flint forest fountain garnet ginger goblet granite hammer harbour hazel heron holly honey indigo iron island ivory
jasmine juniper kettle lantern laurel lavender lemon lily linen lupin magpie maple marble meadow mirror mulberry mustard
needle nettle oak olive onyx orchard otter oyster parsley pearl pepper pewter pigeon pillar plum poppy quartz quill
raven ribbon river rosemary saddle saffron sapphire scarlet shadow silver sparrow spindle swallow tallow tansy thimble
thistle timber topaz turnip velvet violet walnut willow window winter yarrow""".split()
THINGS = ["the watchword", "the secret", "the motto", "the signal", "the password"]


def person(rng):
    return f"{rng.choice(NAMES)} {rng.choice(SURNAMES)}"


def secret(rng):
    return f"{rng.choice(WORDS)} {rng.choice(WORDS)} {rng.randint(10, 99)}"


class Prose:
    """Lines of books, from which consecutive passages are taken."""

    def __init__(self, texts):
        self.books = [[line for line in text.split("\n") if line.strip()] for text in texts]
        self.ends = [list(itertools.accumulate(len(line) + 1 for line in book)) for book in self.books]
        self.words = sorted(set(itertools.chain.from_iterable(re.findall(r"[A-Za-z]+", text) for text in texts)))

    def passage(self, rng, n_chars):
        """Consecutive lines of one book, the last cut at a word: n_chars at most, and no less than a word short of it."""
        i_book = rng.randrange(len(self.books))
        book, ends = self.books[i_book], self.ends[i_book]
        first = rng.randrange(max(1, bisect.bisect_left(ends, ends[-1] - n_chars)))
        start = ends[first] - len(book[first]) - 1
        last = bisect.bisect_left(ends, start + n_chars)
        text = "\n".join(book[first : last + 1])
        return text if len(text) <= n_chars else text[:n_chars].rsplit(" ", 1)[0]


def log_uniform(rng, low, high):
    return int(math.exp(rng.uniform(math.log(low), math.log(max(high, low + 1)))))


# A question is three texts: what is planted, and, later, what asks for it and what answers.


def needle_question(rng, prose):
    thing, name, word = rng.choice(THINGS), person(rng), secret(rng)
    planted = f"{thing[0].upper()}{thing[1:]} of {name} is {word}."
    return planted, f"Remember: {thing} of {name} is", f" {word}."


def repeat_question(rng, prose):
    passage = prose.passage(rng, rng.randint(150, 500))
    cut = passage.find(" ", len(passage) // 4)
    cut = cut if cut > 0 else len(passage) // 4
    return passage, f"Once more: {passage[:cut]}", passage[cut:]


def ledger_question(rng, prose):
    rows = list({person(rng): rng.randint(100, 9999) for _ in range(rng.randint(3, 10))}.items())
    planted = "\n".join(["The ledger:", *(f"{name}, {number}" for name, number in rows)])
    rng.shuffle(rows)
    (name, number), *others = rows
    rest = "".join(f"\n{name}, {number}" for name, number in others)
    return planted, f"From the ledger:\n{name},", f" {number}{rest}"


KINDS = {"needle": (needle_question, 5), "repeat": (repeat_question, 4), "ledger": (ledger_question, 2)}


def choose_kind(rng):
    return rng.choices(list(KINDS), [weight for _, weight in KINDS.values()])[0]


def document(rng, prose, n_chars):
    """A document of n_chars or somewhat less: questions planted and asked among lines of a book."""
    make = KINDS[choose_kind(rng)][0]
    questions = [make(rng, prose) for _ in range(1 + min(7, rng.randint(n_chars // 1500, n_chars // 500)))]
    n_questions = sum(map(len, itertools.chain(*questions)))
    lines = prose.passage(rng, max(200, n_chars - n_questions)).split("\n")
    inserted = []
    for planted, asks, answers in questions:
        # Log-uniform in the share of the text between the two, so that every distance is met.
        distance = max(1, log_uniform(rng, 1, len(lines)))
        first = rng.randint(0, len(lines) - min(distance, len(lines)))
        inserted += [(first, planted), (first + distance, asks + answers)]
    for i, text in sorted(inserted, key=lambda pair: -pair[0]):
        lines.insert(min(i, len(lines)), text)
    return "\n".join(lines)


def drill(rng, prose, n_chars):
    """A few lines, again and again in random order: of words without sense, or passages of a book. So short that the first
    occurrence is easily found, and of words so rare that finding it is worth much."""
    share = n_chars // rng.randint(2, 5)
    if rng.random() < 0.75:
        n_words = rng.choice((2, 3, 4, 6, 8, 12, 16))
        lines = [" ".join(rng.choice(prose.words) for _ in range(n_words)) for _ in range(max(1, share // (7 * n_words)))]
    else:
        n_lines = rng.randint(1, 4)
        lines = [prose.passage(rng, max(60, share // n_lines)) for _ in range(n_lines)]
    text, length = [], 0
    while length < n_chars:
        rng.shuffle(lines)
        text += lines
        length += sum(map(len, lines)) + len(lines)
    return "\n".join(text)[:n_chars]


def drills(seed, prose, n_chars, chars_min, chars_max):
    """Drills of chars_min to chars_max characters, n_chars in all."""
    rng = random.Random(seed)
    documents, total = [], 0
    while total < n_chars:
        documents.append(drill(rng, prose, log_uniform(rng, chars_min, chars_max)) + "\n")
        total += len(documents[-1])
    return documents


def probe(rng, prose, kind, distance):
    """(prompt, answer): one question, planted `distance` characters of other text before it is asked."""
    planted, asks, answers = KINDS[kind][0](rng, prose)
    return "\n".join([prose.passage(rng, 200), planted, prose.passage(rng, distance), asks]), answers
