#!/usr/bin/env python3
"""A lookfar server through OpenAI's Python client (pip install openai).

    lookfar serve -m MODEL &
    python3 examples/openai_client.py [BASE_URL [KEY]]
"""
import sys

from openai import OpenAI

base_url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080/v1"
client = OpenAI(base_url=base_url, api_key=sys.argv[2] if len(sys.argv) > 2 else "none")
model = client.models.list().data[0].id

# A text goes on, token by token as it comes. The same seed gives the same text, with candidates or without.
for chunk in client.completions.create(model=model, prompt="Once upon a time", max_tokens=60, seed=7, stream=True):
    print(chunk.choices[0].text, end="", flush=True)
print()

# The same again, plain; and what speculation gains is the difference of these numbers, never of the text.
for speculative in (False, True):
    answer = client.completions.create(
        model=model, prompt="Once upon a time", max_tokens=60, seed=7,
        extra_body={"speculative": speculative, "return_metrics": True, "timings_per_token": True})
    metrics, timings = answer.metrics["speculative_decoding"], answer.timings
    print(f"speculative {speculative}: {metrics['mean_acceptance_length']:.2f} tokens per pass, "
          f"{timings['predicted_per_second']:.0f} tokens/s, {len(answer.choices[0].text)} characters")

# Output that a program can read.
answer = client.completions.create(model=model, prompt="Is the sky blue? ", max_tokens=8,
                                   extra_body={"guided_choice": ["yes", "no"]})
print("choice:", answer.choices[0].text)
