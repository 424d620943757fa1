"""Completions asked of a server by plain sockets, to the end or to where a client loses its patience."""
import http.client
import json
import re
import urllib.parse

# Every way in which an answer can come about; it must be the same by all of them.
WAYS = [{"speculative": False},
        {"speculative": {"proposer": "auto"}},
        {"speculative": {"proposer": "ngram", "draft_max": 6}},
        {"speculative": {"proposer": "jacobi"}},
        {"speculative": {"proposer": "sparse", "budget": 256}},
        {"speculative": {"proposer": "sparse", "budget": 128, "selection": "window", "draft_max": 3}},
        {"speculative": {"proposer": "sparse", "drafting": "jacobi", "draft_max": 12}},
        {"speculative": {"proposer": "sparse", "selection": "snap"}}]


def ask(url, path, body, patience=None):
    """(status, text of the answer); streams are put together. patience: chunks after which it hangs up; then the text is None."""
    where = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=1200)
    try:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        if patience == 0:
            return 0, None
        answer = connection.getresponse()
        if answer.status != 200 or not body.get("stream"):
            return answer.status, answer.read().decode()
        text = ""
        for i, line in enumerate(answer):
            if patience is not None and i >= patience:
                return 0, None
            if line.startswith(b"data: {"):
                event = json.loads(line[6:])
                assert "error" not in event, event
                text += "".join(choice["text"] for choice in event["choices"])
        return 200, text
    finally:
        connection.close()


def text_of(status, answer, streams):
    """The text of a completion that ask gave."""
    assert status == 200, (status, answer)
    return answer if streams else json.loads(answer)["choices"][0]["text"]


def metric(url, name):
    """The sum of a metric's lines."""
    where = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname, where.port)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return sum(float(v) for v in re.findall(rf"^lookfar:{re.escape(name)}(?:\{{[^}}]*\}})? (\S+)$", text, re.M))
