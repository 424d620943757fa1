#!/usr/bin/env python3
"""Schemas for tests/test_grammar.c, and the reference's opinion on what is valid.

    grammar.py record           writes tests/golden/grammar/schemas.jsonl: 500 random schemas, each with instances and
                                whether `jsonschema` finds them valid
    grammar.py check TEST       runs the built test_grammar, and validates with `jsonschema` all that the masks let through
"""
import json
import os
import random
import subprocess
import sys
import tempfile

import jsonschema

HERE = os.path.dirname(os.path.abspath(__file__))
GOLDEN = os.path.join(HERE, "..", "golden", "grammar", "schemas.jsonl")
N_SCHEMAS = 500
N_INSTANCES = 3

KEYS = ["id", "name", "a", "ab", "abc", "is_ok", "größe", "a\"b", "x y", "tags", "next", "v\\w", "", "n/1", "data"]
WORDS = ["red", "green", "blue", "a", "", "ünï", "two words", "q\"uote", "back\\slash", "tab\t", "日本"]
PATTERNS = ["^[a-z]{2,5}$", "^[A-Z][0-9]{3}$", "[0-9]", "^(?:foo|bar)+$", "^\\d{1,3}(\\.\\d{2})?$", "^[^ \"]*$", "x$|^y",
            "^[A-Za-z0-9_-]{1,8}$", "^.{2}ß?$"]
FORMATS = ["date", "time", "date-time", "uuid", "ipv4", "ipv6", "email", "hostname", "uri"]


class Maker:
    def __init__(self, seed):
        self.rng = random.Random(seed)

    def chance(self, p):
        return self.rng.random() < p

    def string(self):
        s = {"type": "string"}
        kind = self.rng.random()
        if kind < 0.2:
            low = self.rng.randrange(6)
            s["minLength"] = low
            if self.chance(0.7):
                s["maxLength"] = low + self.rng.randrange(12)
        elif kind < 0.4:
            s["pattern"] = self.rng.choice(PATTERNS)
            if self.chance(0.2):
                s["maxLength"] = 6
        elif kind < 0.55:
            s["format"] = self.rng.choice(FORMATS)
        return s

    def number(self):
        integer = self.chance(0.6)
        s = {"type": "integer" if integer else "number"}
        bound = (lambda: self.rng.randrange(-300, 300)) if integer or self.chance(0.4) else (
            lambda: round(self.rng.uniform(-20, 20), self.rng.randrange(1, 4)))
        low, high = sorted([bound(), bound()])
        if self.chance(0.4):
            s[self.rng.choice(["minimum", "exclusiveMinimum"])] = low
        if self.chance(0.4):
            s[self.rng.choice(["maximum", "exclusiveMaximum"])] = high + 2
        return s

    def values(self):
        pool = WORDS + [0, 1, -7, 2.5, True, False, None, [1, "a"], {"k": [None]}]
        return self.rng.sample(pool, self.rng.randrange(1, 6))

    def object(self, depth):
        keys = self.rng.sample(KEYS, self.rng.randrange(0, 6))
        s = {"type": "object"}
        if keys or self.chance(0.5):
            s["properties"] = {k: self.schema(depth - 1) for k in keys}
            s["required"] = [k for k in keys if self.chance(0.6)]
        kind = self.rng.random()
        if kind < 0.4:
            s["additionalProperties"] = False
        elif kind < 0.6:
            s["additionalProperties"] = self.schema(depth - 1)
        elif kind < 0.7:
            s["patternProperties"] = {"^x_": self.schema(depth - 1), "[0-9]$": {"type": "integer"}}
            s["additionalProperties"] = False
        return s

    def array(self, depth):
        s = {"type": "array"}
        if self.chance(0.2):
            s["prefixItems"] = [self.schema(depth - 1) for _ in range(self.rng.randrange(1, 4))]
        if self.chance(0.8):
            s["items"] = self.schema(depth - 1)
        low = self.rng.randrange(4)
        if self.chance(0.4) and ("items" in s or "prefixItems" not in s):
            s["minItems"] = low
        if self.chance(0.4):
            s["maxItems"] = low + self.rng.randrange(4)
        return s

    def schema(self, depth):
        kind = self.rng.random()
        if depth <= 0:
            kind *= 0.55
        if kind < 0.2:
            return self.string()
        if kind < 0.33:
            return self.number()
        if kind < 0.4:
            return {"type": self.rng.choice(["boolean", "null"])}
        if kind < 0.48:
            return {"enum": self.values()}
        if kind < 0.51:
            return {"const": self.values()[0]}
        if kind < 0.55:
            return {"type": self.rng.sample(["string", "integer", "null", "boolean"], 2)}
        if kind < 0.75:
            return self.object(depth)
        if kind < 0.87:
            return self.array(depth)
        if kind < 0.93:
            return {"anyOf": [self.schema(depth - 1) for _ in range(self.rng.randrange(1, 4))]}
        if kind < 0.95:
            return {"oneOf": [{"type": "null"}, self.number(), self.array(depth - 1)]}
        if kind < 0.97:
            return {"allOf": [{"type": "object", "properties": {"a": self.schema(depth - 1)}, "required": ["a"]},
                              {"properties": {"id": self.number(), "a": True}, "additionalProperties": self.chance(0.5)}]}
        if kind < 0.985:
            return {"$ref": "#/$defs/list"}
        return {"$ref": "#/$defs/tree", "description": "of references"}

    def root(self):
        s = self.object(3) if self.chance(0.7) else self.schema(3)
        defs = {
            "list": {"anyOf": [{"type": "null"}, {
                "type": "object", "properties": {"v": self.string(), "next": {"$ref": "#/$defs/list"}},
                "required": ["v", "next"], "additionalProperties": False}]},
            "tree": {"type": "array", "items": {"anyOf": [{"type": "integer"}, {"$ref": "#/$defs/tree"}]}, "maxItems": 3}}
        if "$ref" in json.dumps(s):
            s["$defs"] = defs
        return s


class Instances:
    """Values that a schema might like: made along it, with things going wrong now and then."""

    def __init__(self, rng, root):
        self.rng, self.root = rng, root

    def make(self, s, depth=4):
        rng = self.rng
        if s is True or depth < 0 or rng.random() < 0.03:
            return rng.choice([None, 1, "a", [], {}, 2.5, True])
        if "$ref" in s:
            return self.make(self.root["$defs"][s["$ref"].split("/")[-1]], depth - 1)
        for key in ("anyOf", "oneOf"):
            if key in s:
                return self.make(rng.choice(s[key]), depth)
        if "allOf" in s:
            made = [self.make(x, depth) for x in s["allOf"]]
            return {k: v for x in made if isinstance(x, dict) for k, v in x.items()}
        if "enum" in s:
            return rng.choice(s["enum"])
        if "const" in s:
            return s["const"]
        kind = s.get("type", "object")
        if isinstance(kind, list):
            kind = rng.choice(kind)
        if kind == "object":
            names = [k for k in s.get("properties", {}) if k in s.get("required", []) or rng.random() < 0.5]
            o = {k: self.make(s["properties"][k], depth - 1) for k in names}
            if rng.random() < 0.3:
                o[rng.choice(["x_1", "extra", "x_", "z9"])] = rng.choice([1, "b", None])
            return o
        if kind == "array":
            return [self.make(s.get("items", True), depth - 1) for _ in range(rng.randrange(4))]
        if kind == "string":
            return rng.choice(WORDS + ["foo", "ab", "A123", "2024-02-29", "10.0.0.1", "12.50", "xyz"])
        if kind in ("integer", "number"):
            near = s.get("minimum", s.get("maximum", s.get("exclusiveMinimum", s.get("exclusiveMaximum", 0))))
            return rng.choice([near, near + 1, near - 1, int(near), near + 0.5, rng.randrange(-400, 400)])
        return {"boolean": rng.choice([True, False]), "null": None}[kind]


def validator(schema):
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)


def record():
    os.makedirs(os.path.dirname(GOLDEN), exist_ok=True)
    with open(GOLDEN, "w", encoding="utf-8") as out:
        for i in range(N_SCHEMAS):
            schema = Maker(i).root()
            valid = jsonschema.Draft202012Validator(schema)  # formats are for check: the test's validator knows none
            maker = Instances(random.Random(10_000 + i), schema)
            made = [maker.make(schema) for _ in range(N_INSTANCES)]
            line = {"schema": schema, "instances": [[x, valid.is_valid(x)] for x in made]}
            out.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")


def check(test):
    schemas = [json.loads(line)["schema"] for line in open(GOLDEN, encoding="utf-8")]
    with tempfile.NamedTemporaryFile("r", suffix=".jsonl") as texts:
        subprocess.run([test], check=True, env={**os.environ, "LOOKFAR_GRAMMAR_TEXTS": texts.name},
                       stdout=subprocess.DEVNULL)
        n = 0
        for line in texts:
            made = json.loads(line)
            problems = [e.message for e in validator(schemas[made["schema"]]).iter_errors(json.loads(made["text"]))]
            if problems:
                sys.exit(f"schema {made['schema']}: {made['text']}: {problems[0]}")
            n += 1
    print(f"{n} texts of {len(schemas)} schemas are valid")
    return 0 if n >= len(schemas) else "found too few texts"


if __name__ == "__main__":
    if sys.argv[1:] == ["record"]:
        record()
    elif len(sys.argv) == 3 and sys.argv[1] == "check":
        sys.exit(check(sys.argv[2]))
    else:
        sys.exit(__doc__)
