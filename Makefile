# lookfar: `make help` lists the targets. Everything is built under build/, one folder per variant.
CC       ?= cc
CLANG    ?= clang
VARIANT  ?= release
LOOKFAR_DATA ?= ../shared/data
VERSION  := $(shell sed -n 's/.*return "\([0-9.]*\)";/\1/p' src/engine.c)
export LOOKFAR_DATA
.DEFAULT_GOAL := all

O        := $(if $(filter release,$(VARIANT)),build,build/$(VARIANT))
WARN     := -Wall -Wextra -Wshadow -Wconversion -Wvla -Wmissing-prototypes -Wstrict-prototypes -Wundef
OPT      := -O2
SAN      :=
WRAP     :=
ifeq ($(VARIANT),asan)
SAN      := -fsanitize=address -fno-omit-frame-pointer
OPT      := -O1 -g
# Here tests/oom.c stands between our code and the sanitizer's allocator.
WRAP     := $(foreach f,malloc calloc realloc aligned_alloc,-Wl,--wrap=$f)
else ifeq ($(VARIANT),ubsan)
SAN      := -fsanitize=undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
OPT      := -O1 -g
else ifeq ($(VARIANT),tsan)
SAN      := -fsanitize=thread -fno-omit-frame-pointer
OPT      := -O1 -g
else ifeq ($(VARIANT),fuzz)
CC       := $(CLANG)
SAN      := -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
OPT      := -O1 -g
else ifeq ($(VARIANT),clang)
CC       := $(CLANG)
endif

ifneq ($(SAN),)
WARN     += -Wno-unknown-warning-option -Wno-maybe-uninitialized # gcc sees ghosts in what its sanitizers insert
endif

# No -march=native and no -ffast-math: one binary for every x86-64, with the kernels chosen at start, and no sum in an
# order of the compiler's choosing. -ffp-contract=off: a multiply-add is one rounding only where the code says fma.
CFLAGS   := -std=c11 -D_GNU_SOURCE $(OPT) -g -fPIC -fvisibility=hidden -ffp-contract=off -pthread $(WARN) -Werror $(SAN)
CPPFLAGS := -Iinclude -Isrc -MMD -MP $(if $(SAN),-DLF_TESTS_SHORT)
LIBS     := -ljansson -lpcre2-8 -lutf8proc -lm -pthread
LIBS_TRAIN := -ldnnl -fopenmp
LIBS_APP := -lmicrohttpd -lsqlite3

# Fuzzers parse files and run no kernels, whose unrolled bodies take clang many minutes with both sanitizers.
ifeq ($(VARIANT),fuzz)
$O/obj/src/kernel/x86/%.o: CFLAGS += -fno-sanitize=all
endif

AVX2     := -mavx2 -mfma -mf16c
AVX512   := $(AVX2) -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni

LIB_SRC  := $(sort $(wildcard src/*.c src/*/*.c src/*/*/*.c))
APP_SRC  := $(sort $(wildcard app/*.c app/serve/*.c bench/*.c))
TEST_SRC := $(sort $(wildcard tests/test_*.c))
FUZZ_SRC := $(sort $(wildcard fuzz/fuzz_*.c))
# Under tsan only what starts threads: the rest has no races to find and takes ten times as long.
THREADED := base threads convert families forward generate law requests sched sched_limits serve_api serve_faults serve_load
ifeq ($(VARIANT),tsan)
TEST_SRC := $(filter $(THREADED:%=tests/test_%.c),$(TEST_SRC))
endif
LIB_OBJ  := $(LIB_SRC:%.c=$O/obj/%.o)
# Who only runs models does not load what training needs: the shared library is in two parts.
RUN_OBJ  := $(filter-out $O/obj/src/train/% $O/obj/src/distill%,$(LIB_OBJ))
APP_OBJ  := $(APP_SRC:%.c=$O/obj/%.o)
HELP_OBJ := $(patsubst %.c,$O/obj/%.o,$(filter-out tests/test_%.c,$(wildcard tests/*.c)) $(wildcard bench/*.c))
TESTS    := $(TEST_SRC:tests/%.c=$O/tests/%)
FUZZERS  := $(FUZZ_SRC:fuzz/%.c=$O/fuzz/%)

.PHONY: all lib tests check test demo asan ubsan tsan mutants fuzz fuzzers bench lint format oracle test-serve install help clean compile_commands.json
.SECONDARY:

all: $O/lookfar lib

lib: $O/liblookfar.a $O/liblookfar.so $O/liblookfar-train.so

$O/obj/src/kernel/x86/%_avx2.o: CFLAGS += $(AVX2)
$O/obj/src/kernel/x86/%_avx512.o: CFLAGS += $(AVX512)
$O/obj/src/kernel/x86/%_avx512bf16.o: CFLAGS += $(AVX512) -mavx512bf16

# The trainer: OpenMP, and square roots and branches in loops that may become vectors (clang complains where they do not).
$O/obj/src/train/%.o: CFLAGS += -fopenmp -fno-math-errno -fno-trapping-math -Wno-pass-failed
$O/obj/src/train/x86/%_avx512.o $O/obj/src/train/x86/%_avx512bf16.o: CFLAGS += -mprefer-vector-width=512
$O/obj/src/train/x86/%_avx2.o: CFLAGS += $(AVX2)
$O/obj/src/train/x86/%_avx512.o: CFLAGS += $(AVX512)
$O/obj/src/train/x86/%_avx512bf16.o: CFLAGS += $(AVX512) -mavx512bf16

# The page lies in the program (.incbin).
$O/obj/app/serve/page.o: $(wildcard app/serve/page/*)

$O/obj/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<

$O/liblookfar.a: $(LIB_OBJ)
	rm -f $@ && ar rcs $@ $^

$O/liblookfar.so: $(RUN_OBJ) tools/exports.map
	$(CC) $(CFLAGS) -shared -Wl,-soname,$(@F).0 -Wl,--version-script=tools/exports.map -o $@ $(RUN_OBJ) $(LIBS)

$O/liblookfar-train.so: $(LIB_OBJ) tools/exports_train.map
	$(CC) $(CFLAGS) -shared -Wl,-soname,$(@F).0 -Wl,--version-script=tools/exports_train.map -o $@ $(LIB_OBJ) $(LIBS) $(LIBS_TRAIN)

$O/lookfar: $(APP_OBJ) $O/liblookfar.a
	$(CC) $(CFLAGS) -o $@ $^ $(LIBS) $(LIBS_TRAIN) $(LIBS_APP)

$O/tests/test_serve_chunk: $O/obj/app/serve/chunk.o
$O/tests/test_serve_reply: $O/obj/app/serve/reply.o $O/obj/app/serve/json.o

# The parts of `lookfar eval` are tested one by one.
$O/tests/test_eval: $(filter $O/obj/app/eval_%,$(APP_OBJ)) $O/obj/app/sha256.o $O/obj/app/text.o
$O/tests/test_eval: LIBS += $(LIBS_APP)

$O/tests/%: $O/obj/tests/%.o $(HELP_OBJ) $O/liblookfar.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(WRAP) -o $@ $^ -lcmocka $(LIBS) $(LIBS_TRAIN)

$O/fuzz/%: $O/obj/fuzz/%.o $O/liblookfar.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -fsanitize=fuzzer -o $@ $(filter %.o,$^) $(filter %.a,$^) $(LIBS)

# What this one fuzzes is the command's.
$O/fuzz/fuzz_request: $O/obj/app/serve/call.o $O/obj/app/serve/error.o

tests: $(TESTS) $O/lookfar lib

fuzzers: $(FUZZERS)

# ---- what people call ----

JOBS := $(shell nproc)
MODEL ?= $(firstword $(wildcard models/novella.gguf $(LOOKFAR_DATA)/models/hf/stories260K))
PROMPT ?= It was late in the evening when
# The model writes a long text, and goes on from there in a batch: plainly, then with guesses.
DEMO ?= --write 8000 --parallel 8 -n 128 --temp 0.8 --seed 1
# A model that was made fast on its own trajectories, beside the one that it was made from, on questions into SQL, one after the other:
# too few tokens for auto to learn how many guesses a pass should have.
CLLM ?= $(wildcard models/scribe-sql-cllm.gguf)
TARGET ?= $(wildcard models/scribe-sql.gguf)

demo: setup-build ## let the models that ship with the project (or MODEL=PATH) write, plainly and with guesses
	@$(MAKE) --no-print-directory -s -j$(JOBS) all
	@[ -n "$(MODEL)" ] || { echo "make demo: no model here yet; give one: make demo MODEL=PATH"; exit 1; }
	$O/lookfar run -m "$(MODEL)" -p "$(PROMPT)" --compare $(DEMO)
	$(if $(CLLM),$O/lookfar run -m "$(CLLM)" --target "$(TARGET)" --compare --prompts examples/sql_questions.jsonl -n 128 \
		--parallel 1 --proposer jacobi --draft-max 3)

test: setup-build setup-test ## install what is missing, build, run every test
	@$(MAKE) --no-print-directory -s -j$(JOBS) tests
	@$(MAKE) --no-print-directory check

check: ## run the tests that are built
	@sh tests/run.sh $(TESTS)

asan ubsan tsan: setup-build setup-test ## run the tests under a sanitizer
	@$(MAKE) --no-print-directory -s -j$(JOBS) VARIANT=$@ tests
	@$(MAKE) --no-print-directory VARIANT=$@ check

mutants: setup-build setup-test ## plant known bugs and see the tests fail
	@sh tools/mutants.sh

FUZZ_SECONDS ?= 60
fuzz: setup-build setup-fuzz ## fuzz every parser for FUZZ_SECONDS each
	@$(MAKE) --no-print-directory -s -j$(JOBS) VARIANT=fuzz fuzzers
	@for f in $(FUZZ_SRC:fuzz/%.c=%); do sh fuzz/run.sh build/fuzz/fuzz/$$f $(FUZZ_SECONDS) || exit 1; done

bench: setup-build ## measure decoding and prefill (see docs/SPEED.md)
	@$(MAKE) --no-print-directory -s -j$(JOBS) all
	$O/lookfar bench decode

lint: setup-lint ## format, include arrows, static analysis
	@sh tools/lint.sh

format: setup-lint ## format the sources in place
	clang-format -i $$(find include src app bench tests fuzz -name '*.[ch]')

oracle: setup-build setup-oracle ## compare live with PyTorch, transformers, tokenizers, gguf
	@$(MAKE) --no-print-directory -s -j$(JOBS) all tests
	sh tests/oracle/run.sh

test-serve: setup-build setup-serve ## the openai client, schemathesis and a browser against lookfar serve
	@$(MAKE) --no-print-directory -s -j$(JOBS) all
	sh tests/serve/run.sh "$(MODEL)"

setup-%:
	@sh tools/setup.sh $*

compile_commands.json: ## for clangd and other tools
	@$(MAKE) --no-print-directory -Bn all tests | sh tools/compile_commands.sh > $@

PREFIX ?= /usr/local
install: all ## install the command, the library, the header and the man page under PREFIX
	install -Dm755 $O/lookfar $(DESTDIR)$(PREFIX)/bin/lookfar
	install -Dm644 $O/liblookfar.a $(DESTDIR)$(PREFIX)/lib/liblookfar.a
	for l in lookfar lookfar-train; do \
	    install -Dm755 $O/lib$$l.so $(DESTDIR)$(PREFIX)/lib/lib$$l.so.0 && \
	    ln -sf lib$$l.so.0 $(DESTDIR)$(PREFIX)/lib/lib$$l.so || exit 1; done
	install -Dm644 include/lookfar.h $(DESTDIR)$(PREFIX)/include/lookfar.h
	mkdir -p $(DESTDIR)$(PREFIX)/lib/pkgconfig
	for l in lookfar lookfar-train; do \
	    sed 's|@PREFIX@|$(PREFIX)|; s|@VERSION@|$(VERSION)|' tools/$$l.pc.in > $(DESTDIR)$(PREFIX)/lib/pkgconfig/$$l.pc || exit 1; done
	for m in $(wildcard models/*.gguf); do install -Dm644 $$m $(DESTDIR)$(PREFIX)/share/lookfar/$$m || exit 1; done
	install -Dm644 docs/lookfar.1 $(DESTDIR)$(PREFIX)/share/man/man1/lookfar.1

clean: ## remove everything that was built
	rm -rf build compile_commands.json

help: ## this list
	@sed -n 's/^\([a-z_. ]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-32s %s\n", $$1, $$2 }'

-include $(shell find build -name '*.d' 2>/dev/null)
