"""Word problems of two to four plain steps, made from a grammar, with answers in GSM8K's form: what teaches a small model to take the
numbers out of a question in the right order, and to add, subtract, multiply and divide them. GSM8K has seven thousand questions, too
few for that.

A problem is a story about one number: a beginning, steps that each change it, a question for what it is at the end. All randomness
comes from the generator that is seeded here. Used by scribe_data.py.
"""

import random

PEOPLE = [(name, "she", "her") for name in "Anna Carla Emma Grace Jenny Julia Lisa Mary Natalia Rosa Sarah Tina".split()] + [
    (name, "he", "his") for name in "Adam Ben Carlos David Jack James Ken Leo Mark Paul Peter Tom".split()
]
THINGS = (
    """apples balloons beads books bottles buttons candies cards coins cookies cups eggs flowers marbles mangoes oranges pencils
pens plants shells stamps stickers toys""".split()
)
HOLDERS = "bags baskets boxes jars packs trays".split()
SHARES = (("half", 2), ("a third", 3), ("a quarter", 4), ("a fifth", 5))
TIMES = (("twice", 2), ("three times", 3), ("four times", 4), ("five times", 5))


class Problem:
    """value: how many things (or dollars) there are by now."""

    def __init__(self, rng):
        self.rng = rng
        self.name, self.he, self.his = rng.choice(PEOPLE)
        self.friend = rng.choice([person[0] for person in PEOPLE if person[0] != self.name])
        self.things = rng.choice(THINGS)
        self.told, self.lines, self.value = [], [], 0

    def tell(self, *wordings):
        self.told.append(self.rng.choice(wordings))

    def count(self, sum_, value, *wordings):
        """A line of the answer: {} in a wording is the sum with its result."""
        spaced = sum_ if self.rng.random() < 0.5 else sum_.translate({ord(sign): f" {sign} " for sign in "+-*/"})
        self.value = value
        self.lines.append(self.rng.choice(wordings).format(f"{spaced} = <<{sum_}={value}>>{value}"))


# ---- beginnings ----


def begin_held(p):
    p.value = p.rng.randint(5, 90)
    p.tell(
        f"{p.name} has {p.value} {p.things}.",
        f"{p.name} bought {p.value} {p.things}.",
        f"There are {p.value} {p.things} on {p.name}'s table.",
    )


def begin_packed(p):
    n, each, holder = p.rng.randint(2, 12), p.rng.randint(3, 20), p.rng.choice(HOLDERS)
    p.tell(
        f"{p.name} has {n} {holder} with {each} {p.things} in each.",
        f"{p.name} buys {n} {holder} of {p.things}. Each of the {holder} holds {each} {p.things}.",
    )
    p.count(f"{n}*{each}", n * each, f"{p.name} has {{}} {p.things}.", f"There are {{}} {p.things} in all the {holder}.")


def begin_daily(p):
    n, days, verb = p.rng.randint(2, 15), p.rng.randint(2, 9), p.rng.choice(("collects", "finds", "makes"))
    unit = p.rng.choice(("day", "week", "month"))
    p.tell(
        f"{p.name} {verb} {n} {p.things} every {unit} for {days} {unit}s.",
        f"Every {unit}, {p.name} {verb} {n} {p.things}. {p.he.title()} does so for {days} {unit}s.",
    )
    p.count(
        f"{n}*{days}", n * days, f"In {days} {unit}s, {p.name} {verb} {{}} {p.things}.", f"{p.name} {verb} {{}} {p.things}."
    )


def begin_friends(p):
    n = p.rng.randint(4, 40)
    kind = p.rng.randrange(3)
    if kind == 0:
        word, factor = p.rng.choice(TIMES)
        p.tell(f"{p.friend} has {n} {p.things}. {p.name} has {word} as many {p.things} as {p.friend}.")
        sum_, value = f"{n}*{factor}", n * factor
    elif kind == 1:
        more = p.rng.randint(2, 30)
        p.tell(f"{p.friend} has {n} {p.things}. {p.name} has {more} more {p.things} than {p.friend}.")
        sum_, value = f"{n}+{more}", n + more
    else:
        fewer = p.rng.randint(1, n - 1)
        p.tell(f"{p.friend} has {n} {p.things}. {p.name} has {fewer} fewer {p.things} than {p.friend}.")
        sum_, value = f"{n}-{fewer}", n - fewer
    p.count(sum_, value, f"{p.name} has {{}} {p.things}.")
    if p.rng.random() < 0.4:
        p.tell("They put them together.")
        p.count(f"{n}+{value}", n + value, f"Together they have {{}} {p.things}.", f"In total they have {{}} {p.things}.")


# ---- steps: False where one does not fit ----


def step_more(p):
    n = p.rng.randint(2, 40)
    p.tell(
        f"Then {p.he} buys {n} more.",
        f"{p.friend} gives {p.name} {n} {p.things}.",
        f"{p.he.title()} gets {n} more {p.things} from {p.his} mother.",
    )
    p.count(f"{p.value}+{n}", p.value + n, f"Now {p.he} has {{}} {p.things}.", f"Then there are {{}} {p.things}.")
    return True


def step_fewer(p):
    if p.value < 4:
        return False
    n = p.rng.randint(1, p.value - 2)
    p.tell(
        f"{p.he.title()} gives {n} of them to {p.friend}.",
        f"Then {p.he} loses {n} {p.things}.",
        f"{p.he.title()} sells {n} {p.things}.",
        f"{n} of the {p.things} are broken.",
    )
    p.count(f"{p.value}-{n}", p.value - n, f"{p.he.title()} has {{}} {p.things} left.", f"Then there are {{}} {p.things}.")
    return True


def step_share_away(p):
    fitting = [share for share in SHARES if p.value % share[1] == 0 and p.value // share[1] > 1]
    if not fitting:
        return False
    words, divisor = p.rng.choice(fitting)
    before, gone = p.value, p.value // divisor
    p.tell(f"{p.he.title()} gives {words} of the {p.things} to {p.friend}.", f"Then {p.he} sells {words} of them.")
    p.count(
        f"{before}/{divisor}",
        gone,
        f"{p.name} gives away {{}} {p.things}.",
        f"{words.capitalize()} of the {p.things} is {{}} {p.things}.",
    )
    p.count(f"{before}-{gone}", before - gone, f"{p.he.title()} has {{}} {p.things} left.")
    return True


def step_multiply(p):
    if p.value > 60:
        return False
    word, factor = p.rng.choice(TIMES)
    p.tell(f"A year later {p.he} has {word} as many.", f"The next week {p.he} has {word} as many {p.things}.")
    p.count(f"{p.value}*{factor}", p.value * factor, f"Then {p.he} has {{}} {p.things}.")
    return True


STEPS = (step_more, step_fewer, step_fewer, step_share_away, step_multiply)


# ---- ends: the question ----


def end_count(p):
    p.tell(
        f"How many {p.things} does {p.name} have now?",
        f"How many {p.things} are there in the end?",
        f"How many {p.things} are left?",
    )


def end_price(p):
    price = p.rng.randint(2, 12)
    p.tell(
        f"Each of them costs ${price}. How much do they cost in total?",
        f"If {p.he} sells them for ${price} each, how much money does {p.he} get?",
    )
    p.count(f"{p.value}*{price}", p.value * price, "The total is ${}.", "They are worth ${}.")


def end_divided(p):
    divisors = [n for n in range(2, 13) if p.value % n == 0 and p.value > n]
    if not divisors:
        return end_count(p)
    n, holder = p.rng.choice(divisors), p.rng.choice(HOLDERS)
    p.tell(
        f"{p.he.title()} puts them equally into {n} {holder}. How many {p.things} are in each?",
        f"If {n} children share them equally, how many {p.things} does each of them get?",
    )
    p.count(f"{p.value}/{n}", p.value // n, f"Each gets {{}} {p.things}.", f"That is {{}} {p.things} each.")


def problems(seed, n):
    """n of (question, answer)."""
    rng = random.Random(seed)
    made = []
    while len(made) < n:
        p = Problem(rng)
        rng.choice((begin_held, begin_packed, begin_daily, begin_friends))(p)
        for _ in range(rng.randint(0 if p.lines else 1, 2)):
            while not rng.choice(STEPS)(p):
                pass
        rng.choice((end_count, end_count, end_price, end_divided))(p)
        if p.lines:
            made.append((" ".join(p.told), "\n".join([*p.lines, f"#### {p.value}"])))
    return made
