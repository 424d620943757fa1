"""Questions about tables, made from a grammar: what teaches a small model to find a question's words in a schema and to copy the names
from there. Spider has seven thousand questions on 140 schemas, too few for that.

Schemas are those of Spider's training databases, each time some of their tables and columns in another order; the questions are
a dozen plain kinds, in several wordings each. Everything else is left to the real questions. All randomness comes from the
generator that is passed in. Used by scribe_data.py.
"""

import random

WORDS = """amber apple Berlin blue bronze Canada cedar China coral Dallas east England France gold green Henry Italy ivory James Japan
Kenya large Linda London Maria Mexico north old open oak Paris pearl Peter red River Robert Rome rose silver small south Spain Susan
Texas Tokyo west white young""".split()
AGGREGATES = (
    ("AVG", ("average", "mean")),
    ("MAX", ("maximum", "highest", "largest")),
    ("MIN", ("minimum", "lowest", "smallest")),
    ("SUM", ("total",)),
)


def plural(name):
    if name.endswith("s"):
        return name
    if name.endswith("y") and name[-2:-1] not in "aeiou":
        return name[:-1] + "ies"
    return name + ("es" if name.endswith(("ch", "sh", "x")) else "s")


class Column:
    def __init__(self, i, table, name, words, kind):
        self.i, self.table, self.name, self.words = i, table, name, words
        self.is_number = kind == "number" and not name.lower().endswith("id")


class Database:
    """Some tables of a schema, and some columns of each, in another order."""

    def __init__(self, rng, schema):
        names, words = schema["table_names_original"], schema["table_names"]
        columns = [
            Column(i, table, name, natural[1], kind)
            for i, ((table, name), natural, kind) in enumerate(
                zip(schema["column_names_original"], schema["column_names"], schema["column_types"])
            )
            if table >= 0
        ]
        keys = [tuple(key) for key in schema["foreign_keys"]]
        keyed = set(sum(keys, ()))
        first = rng.randrange(len(names))
        table_of = {c.i: c.table for c in columns}
        pairs = [(table_of[a], table_of[b]) for a, b in keys]
        near = {a for a, b in pairs if b == first} | {b for a, b in pairs if a == first}
        order = [first, *sorted(near - {first})][: rng.randint(1, 3)]
        rng.shuffle(order)
        self.tables = []
        for table in order:
            own = [c for c in columns if c.table == table]
            kept = [c for c in own if c.i in keyed or rng.random() < 0.7] or own
            rng.shuffle(kept)
            self.tables.append((names[table], words[table], kept[:9]))
        present = {c.i: (name, c) for name, _, kept in self.tables for c in kept}
        self.keys = [(present[a], present[b]) for a, b in keys if a in present and b in present]

    def describe(self):
        tables = ", ".join(f"{name}({', '.join(c.name for c in kept)})" for name, _, kept in self.tables)
        keys = ", ".join(f"{s}.{a.name} = {t}.{b.name}" for (s, a), (t, b) in self.keys)
        return f"{tables}.{' Keys: ' + keys + '.' if keys else ''}"


def value_test(rng, column):
    """(words, SQL) of a condition on a column."""
    if column.is_number:
        n = rng.choice((rng.randint(1, 99), rng.randint(100, 9999)))
        words, sign = rng.choice(
            ((f"greater than {n}", ">"), (f"above {n}", ">"), (f"less than {n}", "<"), (f"below {n}", "<"), (f"equal to {n}", "="))
        )
        return f"{column.words} is {words}", f"{column.name} {sign} {n}"
    value = rng.choice(WORDS)
    return rng.choice((f"{column.words} is {value}", f'{column.words} is "{value}"')), f"{column.name} = '{value}'"


def one_table(rng, name, words, columns):
    """(question, SQL) about one table."""
    many = plural(words)
    shown = rng.choice(columns)
    other = rng.choice([c for c in columns if c is not shown] or columns)
    numbers = [c for c in columns if c.is_number]
    number = rng.choice(numbers) if numbers else None
    condition, sql = value_test(rng, other)
    down = rng.random() < 0.5
    kinds = [
        (rng.choice((f"How many {many} are there?", f"Count the number of {many}.", f"What is the number of {many}?")),
         f"SELECT COUNT(*) FROM {name}"),
        (rng.choice((f"List the {shown.words} of all {many}.", f"What are the {plural(shown.words)} of the {many}?",
                     f"Show the {shown.words} of each {words}.", f"Find the {shown.words} of every {words}.")),
         f"SELECT {shown.name} FROM {name}"),
        (rng.choice((f"Show the {shown.words} and {other.words} of each {words}.",
                     f"What are the {shown.words} and {other.words} of all {many}?")),
         f"SELECT {shown.name}, {other.name} FROM {name}"),
        (rng.choice((f"What is the {shown.words} of the {many} whose {condition}?",
                     f"Find the {shown.words} of the {words} whose {condition}.",
                     f"List the {plural(shown.words)} of {many} whose {condition}.")),
         f"SELECT {shown.name} FROM {name} WHERE {sql}"),
        (rng.choice((f"How many {many} have a {condition.replace(' is ', ' that is ', 1)}?",
                     f"Count the {many} whose {condition}.")),
         f"SELECT COUNT(*) FROM {name} WHERE {sql}"),
        (rng.choice((f"How many {many} are there for each {shown.words}?",
                     f"Show each {shown.words} and the number of {many} with it.")),
         f"SELECT {shown.name}, COUNT(*) FROM {name} GROUP BY {shown.name}"),
        (f"How many different {plural(shown.words)} do the {many} have?",
         f"SELECT COUNT(DISTINCT {shown.name}) FROM {name}"),
        (rng.choice((f"What is the most common {shown.words} of the {many}?",
                     f"Which {shown.words} do most {many} have?")),
         f"SELECT {shown.name} FROM {name} GROUP BY {shown.name} ORDER BY COUNT(*) DESC LIMIT 1"),
        (rng.choice((f"List the {shown.words} of all {many} sorted by {other.words}{' in descending order' if down else ''}.",
                     f"Show the {plural(shown.words)} of the {many} ordered by {other.words}{', descending' if down else ''}.")),
         f"SELECT {shown.name} FROM {name} ORDER BY {other.name}{' DESC' if down else ''}"),
    ]
    least = rng.randint(1, 9)
    kinds.append((f"Which {plural(shown.words)} have more than {least} {many}?",
                  f"SELECT {shown.name} FROM {name} GROUP BY {shown.name} HAVING COUNT(*) > {least}"))
    if number:
        function, adjectives = rng.choice(AGGREGATES)
        kinds += [
            (rng.choice((f"What is the {rng.choice(adjectives)} {number.words} of the {many}?",
                         f"Find the {rng.choice(adjectives)} {number.words} of all {many}.")),
             f"SELECT {function}({number.name}) FROM {name}"),
            (f"What is the {rng.choice(adjectives)} {number.words} of the {many} for each {shown.words}?",
             f"SELECT {shown.name}, {function}({number.name}) FROM {name} GROUP BY {shown.name}"),
            (rng.choice((f"What is the {shown.words} of the {words} with the {'highest' if down else 'lowest'} {number.words}?",
                         f"Which {words} has the {'largest' if down else 'smallest'} {number.words}? Show its {shown.words}.")),
             f"SELECT {shown.name} FROM {name} ORDER BY {number.name}{' DESC' if down else ''} LIMIT 1"),
        ]
    return rng.choice(kinds)


def two_tables(rng, database):
    """(question, SQL) about two tables that a key joins."""
    (left, a), (right, b) = rng.choice(database.keys)
    by_name = {name: (words, columns) for name, words, columns in database.tables}
    (left_words, left_columns), (right_words, right_columns) = by_name[left], by_name[right]
    joined = f"FROM {left} AS T1 JOIN {right} AS T2 ON T1.{a.name} = T2.{b.name}"
    shown, other = rng.choice(left_columns), rng.choice(right_columns)
    condition, sql = value_test(rng, other)
    return rng.choice((
        (f"Show the {shown.words} of each {left_words} and the {other.words} of its {right_words}.",
         f"SELECT T1.{shown.name}, T2.{other.name} {joined}"),
        (f"What are the {plural(shown.words)} of the {plural(left_words)} with a {right_words} whose {condition}?",
         f"SELECT T1.{shown.name} {joined} WHERE T2.{sql}"),
        (f"How many {plural(left_words)} are there for each {other.words} of the {right_words}?",
         f"SELECT T2.{other.name}, COUNT(*) {joined} GROUP BY T2.{other.name}"),
    ))


def questions(seed, schemas, n):
    """n of (description of the tables, question, SQL)."""
    rng = random.Random(seed)
    made = []
    while len(made) < n:
        database = Database(rng, rng.choice(schemas))
        if database.keys and rng.random() < 0.25:
            question, sql = two_tables(rng, database)
        else:
            question, sql = one_table(rng, *rng.choice(database.tables))
        made.append((database.describe(), question, sql))
    return made
