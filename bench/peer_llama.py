#!/usr/bin/env python3
"""Times llama.cpp on a GGUF in the way of llama-bench, for `lookfar bench` to set beside its own numbers.

The binding is llama-cpp-python, built for the machine in a virtual environment of its own:

    python3 -m venv PEER
    CMAKE_ARGS="-DGGML_NATIVE=ON -DGGML_OPENMP=ON -DLLAVA_BUILD=OFF" \\
        PEER/bin/pip install --no-binary llama-cpp-python llama-cpp-python==0.3.36

Only its C functions are called, so that nothing of Python lies between two passes but a few microseconds.

    PEER/bin/python bench/peer_llama.py --model m.gguf --test tg128 --depth 4096 --reps 5    one JSON line each
    PEER/bin/python bench/peer_llama.py --model m.gguf --generate 1,403,407 --n 32           {"ids": [...]}
    PEER/bin/python bench/peer_llama.py --serve                                              a request per line

Tests, each on `batch` sequences that already hold `depth` tokens (filled before the clock starts):
    ppN    N new tokens per sequence, as few passes as llama.cpp makes of them; logits of the last token only
    tgN    N passes of one token per sequence
    rowsN  one pass of N tokens per sequence with the logits of all of them: what a verify pass does
After a repetition the cache is cut back to `depth`, and one untimed repetition precedes the first. Tokens are random.

--generate takes an f32 cache and no flash attention (which rounds to f16): this way llama.cpp is within 1e-6 of a
float32 reference, where its defaults are 5e-4 away.

--serve reads one JSON object per line, with the names of the options as keys ("kv_type" for --kv-type; the options
of the command fill in what it leaves out), and answers each with one line: one repetition, or the ids, or
{"error": ...}. Model, context and filled cache stay until a request needs others, so two engines can take turns,
repetition by repetition.

Threads: unless the environment says otherwise OMP_PROC_BIND=true and OMP_PLACES=cores are set before the library is
loaded. Without them its threads are at times put on one core, and a run comes out at a fraction of its speed.
"""
import argparse
import ctypes
import json
import os
import random
import re
import sys
import time
from dataclasses import dataclass, replace

THREADS = len(os.sched_getaffinity(0))  # before OpenMP binds this thread
os.environ.setdefault("OMP_PROC_BIND", "true")
os.environ.setdefault("OMP_PLACES", "cores")

try:
    import llama_cpp as llama
except ImportError as error:
    sys.exit(f"peer_llama.py: {error}; the head of this file says how to build llama-cpp-python")

KV_TYPES = {"f16": llama.GGML_TYPE_F16, "f32": llama.GGML_TYPE_F32, "q8_0": llama.GGML_TYPE_Q8_0,
            "bf16": 30}  # GGML_TYPE_BF16, which the binding does not name
ROWS_MAX = 2048  # rows per llama_decode, the default of llama-bench; llama.cpp makes passes of 512 of them
CELLS_ALIGN = 256  # llama.cpp rounds the cells of a sequence up to this
LOG_ERROR = 4  # GGML_LOG_LEVEL_ERROR


class PeerError(Exception):
    """A request that llama.cpp cannot serve."""


@dataclass(frozen=True)
class Cell:
    """What is measured. Two cells that differ in the test only may share a context if it has room."""
    model: str
    test: str = "tg128"
    depth: int = 0
    batch: int = 1
    threads: int = THREADS
    kv_type: str = "f16"
    flash_attn: int = 1

    def parse_test(self):
        match = re.fullmatch(r"(pp|tg|rows)([1-9]\d*)", str(self.test))
        if not match:
            raise PeerError(f"test {self.test!r}; expected ppN, tgN or rowsN")
        return match[1], int(match[2])

    def check(self):
        self.parse_test()
        if not isinstance(self.model, str):
            raise PeerError(f"model {self.model!r}; expected the path of a GGUF")
        if self.kv_type not in KV_TYPES:
            raise PeerError(f"KV type {self.kv_type!r}; expected one of {', '.join(KV_TYPES)}")
        for name, low in (("depth", 0), ("batch", 1), ("threads", 1)):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < low:
                raise PeerError(f"{name} {getattr(self, name)!r}; expected an integer of at least {low}")


class Rows:
    """A llama_batch with room for n rows that is filled again and again."""

    def __init__(self, n):
        self.batch = llama.llama_batch_init(n, 0, 1)

    def fill(self, rows):
        """rows: (token, position, sequence, wants logits)."""
        b = self.batch
        b.n_tokens = len(rows)
        for i, (token, position, sequence, wants) in enumerate(rows):
            b.token[i] = token
            b.pos[i] = position
            b.n_seq_id[i] = 1
            b.seq_id[i][0] = sequence
            b.logits[i] = wants

    def close(self):
        llama.llama_batch_free(self.batch)


class Context:
    """One llama_context whose sequences hold `depth` tokens each between calls."""

    def __init__(self, model, cell, n_new):
        self.key = replace(cell, test="")
        self.n_new = n_new
        self.warm = set()  # the tests that had their untimed repetition
        self.n_vocab = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
        self.random = random.Random(1)
        p = llama.llama_context_default_params()
        p.n_ctx = cell.batch * -(-(cell.depth + n_new) // CELLS_ALIGN) * CELLS_ALIGN
        p.n_batch = ROWS_MAX
        p.n_seq_max = cell.batch
        p.kv_unified = False  # a buffer per sequence, as for independent requests
        p.n_threads = p.n_threads_batch = cell.threads
        p.type_k = p.type_v = KV_TYPES[cell.kv_type]
        p.flash_attn_type = (llama.LLAMA_FLASH_ATTN_TYPE_ENABLED if cell.flash_attn
                             else llama.LLAMA_FLASH_ATTN_TYPE_DISABLED)
        p.no_perf = True
        self.ctx = llama.llama_init_from_model(model, p)
        if not self.ctx:
            raise PeerError(f"llama.cpp makes no context of {p.n_ctx} cells for {cell}")
        self.memory = llama.llama_get_memory(self.ctx)
        self.rows = Rows(ROWS_MAX)

    def close(self):
        self.rows.close()
        llama.llama_free(self.ctx)

    def decode(self, rows):
        self.rows.fill(rows)
        status = llama.llama_decode(self.ctx, self.rows.batch)
        if status:
            raise PeerError(f"llama_decode of {len(rows)} rows returned {status}")

    def decode_all(self, passes):
        for rows in passes:
            self.decode(rows)
            llama.llama_synchronize(self.ctx)

    def token(self):
        return self.random.randrange(self.n_vocab)

    def prompt_passes(self, n_sequences, start, n):
        """Calls' worth of rows: n random tokens from position start on in each sequence, logits of the last only."""
        rows = [(self.token(), start + i, s, i == n - 1) for s in range(n_sequences) for i in range(n)]
        return [rows[i:i + ROWS_MAX] for i in range(0, len(rows), ROWS_MAX)]

    def fill_depth(self, cell):
        """Computes the first sequence and copies its cells into the others' buffers."""
        if cell.depth:
            self.decode_all(self.prompt_passes(1, 0, cell.depth))
            for s in range(1, cell.batch):
                llama.llama_memory_seq_cp(self.memory, 0, s, -1, -1)

    def cut(self, cell):
        for s in range(cell.batch):
            if not llama.llama_memory_seq_rm(self.memory, s, cell.depth, -1):
                raise PeerError(f"the cache of sequence {s} cannot be cut back to {cell.depth} tokens")

    def test_passes(self, cell):
        """The rows of every pass of one repetition."""
        kind, n = cell.parse_test()
        if kind == "pp":
            return self.prompt_passes(cell.batch, cell.depth, n)
        if kind == "tg":
            return [[(self.token(), cell.depth + i, s, True) for s in range(cell.batch)] for i in range(n)]
        return [[(self.token(), cell.depth + i, s, True) for s in range(cell.batch) for i in range(n)]]

    def run_test(self, cell):
        """The seconds of one repetition."""
        passes = self.test_passes(cell)
        start = time.perf_counter()
        self.decode_all(passes)
        seconds = time.perf_counter() - start
        self.cut(cell)
        return seconds

    def logits(self, i):
        """The logits of row i of the last pass, of all of its n_vocab tokens."""
        return llama.llama_get_logits_ith(self.ctx, i)[:self.n_vocab]


class Peer:
    """The engine: at most one model and one context, kept while requests ask for the same."""

    def __init__(self):
        self.model = self.model_key = self.context = None
        llama.llama_backend_init()

    def close_context(self):
        if self.context:
            self.context.close()
        self.context = None

    def close(self):
        self.close_context()
        if self.model:
            llama.llama_model_free(self.model)
        self.model = self.model_key = None

    def load_model(self, path):
        try:
            stat = os.stat(path)
        except OSError as error:
            raise PeerError(str(error)) from error
        key = (path, stat.st_mtime_ns, stat.st_size)  # a file that was written anew is another model
        if key == self.model_key:
            return
        self.close()
        self.model = llama.llama_model_load_from_file(path.encode(), llama.llama_model_default_params())
        if not self.model:
            raise PeerError(f"{path}: llama.cpp does not load it")
        self.model_key = key

    def open_context(self, cell, n_new):
        self.load_model(cell.model)
        if self.context and self.context.key == replace(cell, test="") and self.context.n_new >= n_new:
            return self.context
        self.close_context()
        self.context = Context(self.model, cell, n_new)
        self.context.fill_depth(cell)
        return self.context

    def time_cell(self, cell):
        """One repetition as a dict."""
        cell.check()
        kind, n = cell.parse_test()
        if kind == "rows" and n * cell.batch > ROWS_MAX:
            raise PeerError(f"{n} rows x {cell.batch} sequences in one pass; expected at most {ROWS_MAX}")
        context = self.open_context(cell, n)
        if cell.test not in context.warm:
            context.run_test(cell)
            context.warm.add(cell.test)
        seconds = context.run_test(cell)
        return {"test": cell.test, "depth": cell.depth, "batch": cell.batch, "seconds": seconds,
                "tps": n * cell.batch / seconds, "engine": "llama.cpp", "version": llama.__version__}

    def generate(self, cell, ids, n, logits_path=None):
        """n greedy ids after ids, the lowest on a tie, from an empty cache; writes the prompt's logits if asked."""
        cell = replace(cell, depth=0, batch=1, kv_type="f32", flash_attn=0)
        cell.check()
        if not ids or len(ids) > ROWS_MAX:
            raise PeerError(f"{len(ids)} ids to start from; expected 1 to {ROWS_MAX}")
        context = self.open_context(cell, len(ids) + n)
        if not all(isinstance(i, int) and 0 <= i < context.n_vocab for i in ids):
            raise PeerError(f"ids {ids}; expected integers from 0 to {context.n_vocab - 1}")
        context.decode([(token, i, 0, True) for i, token in enumerate(ids)])
        if logits_path:
            with open(logits_path, "wb") as f:  # float32, (len(ids), n_vocab)
                for i in range(len(ids)):
                    f.write((ctypes.c_float * context.n_vocab)(*context.logits(i)))
        out = []
        while len(out) < n:
            last = context.logits(-1)
            out.append(last.index(max(last)))
            context.decode([(out[-1], len(ids) + len(out) - 1, 0, True)])
        context.cut(cell)
        return {"ids": out}


def answer(peer, defaults, request):
    """The answer to one request of --serve; what it leaves out is as in the cell `defaults`."""
    generate, n, path = request.pop("generate", None), request.pop("n", 32), request.pop("logits", None)
    try:
        cell = replace(defaults, **request)
    except TypeError as error:
        raise PeerError(f"request {request}: {error}") from error
    return peer.time_cell(cell) if generate is None else peer.generate(cell, generate, n, path)


def serve(peer, defaults):
    for line in sys.stdin:
        try:
            reply = answer(peer, defaults, dict(json.loads(line)))
        except (PeerError, OSError, ValueError, TypeError) as error:
            peer.close_context()  # whatever its cache holds now
            reply = {"error": str(error)}
        print(json.dumps(reply), flush=True)


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--serve", action="store_true", help="answer requests from standard input")
    parser.add_argument("--model", metavar="FILE", help="GGUF")
    test = parser.add_mutually_exclusive_group()
    test.add_argument("--test", default=Cell.test, help="ppN, tgN or rowsN (default %(default)s)")
    test.add_argument("--rows", type=int, metavar="N", help="the same as --test rowsN")
    test.add_argument("--generate", metavar="IDS", help="instead of timing: greedy ids after these")
    parser.add_argument("--n", type=int, default=32, help="ids to generate (default %(default)s)")
    parser.add_argument("--logits", metavar="FILE", help="with --generate: write the logits of the prompt")
    parser.add_argument("--depth", type=int, default=0, help="tokens already in the cache")
    parser.add_argument("--batch", type=int, default=1, help="sequences")
    parser.add_argument("--threads", type=int, default=THREADS)
    parser.add_argument("--kv-type", default=Cell.kv_type, choices=KV_TYPES)
    parser.add_argument("--flash-attn", type=int, default=Cell.flash_attn, choices=(0, 1))
    parser.add_argument("--reps", type=int, default=5, help="timed repetitions (default %(default)s)")
    args = parser.parse_args()
    if not args.serve and not args.model:
        parser.error("--model or --serve is needed")
    return args


@llama.llama_log_callback
def log_errors(level, text, _):
    if level == LOG_ERROR:
        sys.stderr.write(text.decode(errors="replace"))


def main():
    args = parse_options()
    llama.llama_log_set(log_errors, ctypes.c_void_p(0))
    peer = Peer()
    try:
        cell = Cell(args.model, f"rows{args.rows}" if args.rows else args.test, args.depth, args.batch, args.threads,
                    args.kv_type, args.flash_attn)
        if args.serve:
            serve(peer, cell)
            return 0
        if args.generate:
            ids = [int(i) for i in args.generate.replace(",", " ").split()]
            print(json.dumps(peer.generate(cell, ids, args.n, args.logits)))
            return 0
        for _ in range(args.reps):
            print(json.dumps(peer.time_cell(cell)), flush=True)
        return 0
    except (PeerError, OSError, ValueError) as error:
        print(f"peer_llama.py: {error}", file=sys.stderr)
        return 1
    finally:
        peer.close()


if __name__ == "__main__":
    sys.exit(main())
