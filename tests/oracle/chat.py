"""Compares lookfar's templates with jinja2, in an environment set up as transformers sets it up for chat templates.

    python3 tests/oracle/chat.py [--helper build/tests/test_jinja] [--record] [--more N] [--templates DIR]

Live: every construct of chat_constructs.py, and every template (tests/golden/chat/*.jinja, those of the data folder, and any
*.jinja under DIR) over N generated conversations (2,000), each text compared. A text that jinja2 refuses, lookfar must refuse.

--record writes to tests/golden/chat what `make test` checks without Python:

    constructs.json       {"vars", "now", "cases": [{"template", "text" or null for refused}]}
    conversations.json    200 conversations: the variables of a rendering
    hashes.json           {template: [hash of the text of each conversation, "" for refused]}, FNV-1a of 64 bits
    texts.json            {own template: the texts of the first few conversations}, for people
"""

import argparse
import datetime
import json
import os
import pathlib
import random
import subprocess
import sys

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

from chat_constructs import BLOCKS, CONSTRUCTS, VARS

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
DATA = pathlib.Path(os.environ.get("LOOKFAR_DATA", ROOT / "../shared/data")).resolve()
GOLDEN = ROOT / "tests/golden/chat"
NOW = 1753529696  # 26 Jul 2025 11:34:56 UTC
N_CONVERSATIONS = 200
N_TEXTS = 2


# ---- the reference ----


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_run"), [], [], body).set_lineno(line)

    def _run(self, caller):
        return caller()


def environment():
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def strftime_now(format):
        return datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc).strftime(format)

    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals.update(raise_exception=raise_exception, strftime_now=strftime_now)
    return env


ENV = environment()


def reference(template, variables):
    """The text, or None for what jinja2 refuses."""
    try:
        return ENV.from_string(template).render(**variables)
    except Exception:  # whatever Python's operations raise
        return None


# ---- conversations ----

WORDS = ["hello", "the", "weather", "in", "Zürich", "日本", "😀", "<|im_end|>", "<|eot_id|>", "</s>", "[INST]", "{{ x }}", "{% if %}",
         "it's", "\"quoted\"", "\\n", "\\", "&amp;", "<b>", "a\tb", "\u00a0", "e\u0301", "\u200d", "<think>", "</think>", "code: `x = {}`",
         "<tool_call>", "<tool_response>", "</tool_response>", "1.5", "0", "None", "null", "\u2028", "\u007f"]  # fmt: skip


def sentence(rng, most=8):
    text = ""
    for _ in range(rng.randrange(most)):
        text += rng.choice(WORDS) + rng.choice([" ", " ", " ", "\n", "\n\n", "  ", ""])
    return rng.choice(["", "", "", " ", "\n", "\t "]) + text


def thing(rng, depth=0):
    kind = rng.randrange(9 if depth < 3 else 6)
    if kind == 6 or kind == 7:
        return {rng.choice(WORDS) + str(i): thing(rng, depth + 1) for i in range(rng.randrange(4))}
    if kind == 8:
        return [thing(rng, depth + 1) for _ in range(rng.randrange(4))]
    return [sentence(rng, 4), rng.randrange(-1000, 1000), rng.randrange(10**6) / 64, True, None, rng.choice(WORDS)][kind]


def tool(rng, i):
    name = rng.choice(["get_weather", "search", "naïve", "run"]) + str(i)
    properties = {
        f"p{k}": {"type": rng.choice(["string", "integer", "number", "boolean", "array", "object"]), "description": sentence(rng, 5)}
        for k in range(rng.randrange(4))
    }
    if rng.random() < 0.3:
        properties["unit"] = {"type": "string", "enum": ["celsius", "fahrenheit"]}
    parameters = {"type": "object", "properties": properties, "required": [k for k in properties if rng.random() < 0.5]}
    return {"type": "function", "function": {"name": name, "description": sentence(rng), "parameters": parameters}}


def call(rng, tools):
    name = rng.choice(tools)["function"]["name"] if tools else "f"
    arguments = {f"p{k}": thing(rng, 1) for k in range(rng.randrange(4))}
    if rng.random() < 0.15:
        arguments = json.dumps(arguments)
    return {"id": "".join(rng.choices("abc123XYZ", k=9)), "type": "function", "function": {"name": name, "arguments": arguments}}


def content(rng):
    if rng.random() < 0.08:
        return [{"type": "text", "text": sentence(rng)} for _ in range(rng.randrange(1, 4))]
    if rng.random() < 0.005:
        return " ".join(rng.choice(WORDS) for _ in range(1500))
    return sentence(rng)


def messages_of(rng, tools):
    messages = []
    if rng.random() < 0.5:
        messages.append({"role": "system", "content": content(rng)})
    for turn in range(rng.randrange(1, 5)):
        messages.append({"role": "user", "content": content(rng)})
        if rng.random() < (0.7 if tools else 0.03):
            calls = [call(rng, tools) for _ in range(rng.choice([1, 1, 1, 2, 3]))]
            message = {"role": "assistant", "tool_calls": calls}
            if rng.random() < 0.8:
                message["content"] = rng.choice([None, "", sentence(rng)])
            messages.append(message)
            for c in calls:
                result = rng.choice([sentence(rng), json.dumps(thing(rng)), sentence(rng)])
                messages.append({"role": "tool", "name": c["function"]["name"], "tool_call_id": c["id"], "content": result})
        if turn < 3 and rng.random() < 0.9:
            answer = {"role": "assistant", "content": content(rng)}
            if rng.random() < 0.2:
                answer["content"] = f"<think>\n{sentence(rng)}\n</think>\n\n{sentence(rng)}"
            if rng.random() < 0.1:
                answer["reasoning_content"] = sentence(rng)
            messages.append(answer)
    if rng.random() < 0.05:
        rng.shuffle(messages)
    if rng.random() < 0.03:
        messages.append({"role": rng.choice(["developer", "ipython", "critic"]), "content": sentence(rng)})
    if rng.random() < 0.02:
        messages = []
    return messages


def plain(rng):
    """What every template takes: strings, turn by turn."""
    turns = rng.randrange(1, 4)
    messages = [{"role": ["user", "assistant"][i % 2], "content": sentence(rng)} for i in range(2 * turns - 1)]
    system = [{"role": "system", "content": sentence(rng)}] if rng.random() < 0.3 else []
    return {"messages": system + messages, "tools": None, "documents": None, "add_generation_prompt": rng.random() < 0.7,
            "bos_token": "<s>", "eos_token": "</s>"}  # fmt: skip


def conversation(rng):
    if rng.random() < 0.35:
        return plain(rng)
    tools = [tool(rng, i) for i in range(rng.randrange(1, 4))] if rng.random() < 0.4 else None
    variables = {"messages": messages_of(rng, tools), "tools": tools, "documents": None}
    variables["add_generation_prompt"] = rng.random() < 0.7
    variables["bos_token"] = rng.choice(["<s>", "<|begin_of_text|>"])
    if rng.random() < 0.9:
        variables["eos_token"] = rng.choice(["</s>", "<|eot_id|>"])
    if rng.random() < 0.2:
        variables["enable_thinking"] = rng.random() < 0.5
    if rng.random() < 0.1:
        variables["tools_in_user_message"] = False
    if rng.random() < 0.1:
        variables["documents"] = [{"title": sentence(rng, 4), "text": sentence(rng)} for _ in range(2)]
    return variables


def conversations(seed, n):
    rng = random.Random(seed)
    return [conversation(rng) for _ in range(n)]


# ---- templates ----


def templates(folder):
    found = {}
    for path in sorted(GOLDEN.glob("*.jinja")):
        found[path.name] = path.read_bytes().decode()
    for path in sorted(DATA.glob("tokenizers/*/tokenizer_config.json")):
        template = json.loads(path.read_text()).get("chat_template")
        for item in template if isinstance(template, list) else [{"name": "", "template": template}] if template else []:
            found["/".join(filter(None, [path.parent.name, item["name"]]))] = item["template"]
    for path in sorted(pathlib.Path(folder).rglob("*.jinja")) if folder else []:
        found[str(path)] = path.read_text()
    return found


def constructs():
    blocks = BLOCKS.encode("latin-1", "backslashreplace").decode("unicode-escape").split("\n=====\n")
    return CONSTRUCTS.strip("\n").split("\n") + blocks


def fnv(text):
    if text is None:
        return ""
    h = 0xCBF29CE484222325
    for byte in text.encode():
        h = (h ^ byte) * 0x100000001B3 % 2**64
    return f"{h:016x}"


def record(real):
    GOLDEN.mkdir(parents=True, exist_ok=True)

    def write(name, value, **style):
        (GOLDEN / name).write_text(json.dumps(value, ensure_ascii=False, **style) + "\n")

    cases = [{"template": t, "text": reference(t, VARS)} for t in constructs()]
    write("constructs.json", {"vars": VARS, "now": NOW, "cases": cases}, indent=0)
    recorded = conversations(1, N_CONVERSATIONS)
    write("conversations.json", recorded, separators=(",", ":"))
    texts = {name: [reference(t, c) for c in recorded] for name, t in real.items()}
    write("hashes.json", {name: [fnv(t) for t in all] for name, all in texts.items()}, indent=0)
    own = {name: all for name, all in texts.items() if name.endswith(".jinja")}
    write("texts.json", {name: [t for t in all if t and len(t) < 2000][:N_TEXTS] for name, all in own.items()}, indent=1)


# ---- live ----


def compare(helper, name, cases):
    """cases: (template, variables). Prints the first that differ; returns how many do."""
    lines = [json.dumps({"template": t, "vars": v, "now": NOW}) for t, v in cases]
    run = subprocess.run([helper, "--render"], input="\n".join(lines) + "\n", capture_output=True, text=True)
    answers = [json.loads(line) for line in run.stdout.split("\n")[:-1]]
    if len(answers) != len(cases):
        print(f"{name}: {len(answers)} answers to {len(cases)} questions, status {run.returncode}: {run.stderr[-300:]}")
        return 1
    wrong = refused = 0
    for (template, variables), answer in zip(cases, answers):
        expected = reference(template, variables)
        refused += expected is None
        if answer.get("text") == expected:
            continue
        wrong += 1
        if wrong <= 5:
            print(f"{name}: {template[:160]!r}\n  expected {str(expected)[-400:]!r}\n  found    {str(answer)[-400:]}")
    print(f"{name}: {len(cases)} texts, {refused} of them refused, {wrong} different")
    return wrong


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--helper", default=str(ROOT / "build/tests/test_jinja"))
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--more", type=int, default=2000)
    parser.add_argument("--templates")
    options = parser.parse_args()
    all = templates(None)
    if options.record:
        record(all)
    wrong = compare(options.helper, "constructs", [(t, VARS) for t in constructs()])
    live = conversations(2, options.more)
    for name, template in templates(options.templates).items():
        wrong += compare(options.helper, name, [(template, c) for c in live])
    sys.exit(wrong != 0)


if __name__ == "__main__":
    main()
