# lookfar: `make help` lists the targets. Everything is built under build/, one folder per variant.
CC       ?= cc
CLANG    ?= clang
VARIANT  ?= release
LOOKFAR_DATA ?= ../shared/data
export LOOKFAR_DATA

O        := $(if $(filter release,$(VARIANT)),build,build/$(VARIANT))
WARN     := -Wall -Wextra -Wshadow -Wconversion -Wvla -Wmissing-prototypes -Wstrict-prototypes -Wundef
OPT      := -O2
SAN      :=
ifeq ($(VARIANT),asan)
SAN      := -fsanitize=address -fno-omit-frame-pointer
OPT      := -O1 -g
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

# No -march=native and no -ffast-math: one binary for every x86-64, with the kernels chosen at start, and no sum in an
# order of the compiler's choosing. -ffp-contract=off: a multiply-add is one rounding only where the code says fma.
CFLAGS   := -std=c11 -D_GNU_SOURCE $(OPT) -g -fPIC -fvisibility=hidden -ffp-contract=off -pthread $(WARN) -Werror $(SAN)
CPPFLAGS := -Iinclude -Isrc -MMD -MP
LIBS     := -ljansson -lpcre2-8 -lutf8proc -lm -pthread

AVX2     := -mavx2 -mfma -mf16c
AVX512   := $(AVX2) -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni

LIB_SRC  := $(sort $(wildcard src/*.c src/*/*.c src/*/*/*.c))
APP_SRC  := $(sort $(wildcard app/*.c bench/*.c))
TEST_SRC := $(sort $(wildcard tests/test_*.c))
FUZZ_SRC := $(sort $(wildcard fuzz/fuzz_*.c))
LIB_OBJ  := $(LIB_SRC:%.c=$O/obj/%.o)
APP_OBJ  := $(APP_SRC:%.c=$O/obj/%.o)
HELP_OBJ := $(patsubst %.c,$O/obj/%.o,$(filter-out $(TEST_SRC),$(wildcard tests/*.c)))
TESTS    := $(TEST_SRC:tests/%.c=$O/tests/%)
FUZZERS  := $(FUZZ_SRC:fuzz/%.c=$O/fuzz/%)

.PHONY: all lib tests check test demo asan ubsan tsan fuzz fuzzers bench lint format oracle setup help clean compile_commands.json
.SECONDARY:

all: $O/lookfar lib

lib: $O/liblookfar.a $O/liblookfar.so

$O/obj/src/kernel/x86/%_avx2.o: CFLAGS += $(AVX2)
$O/obj/src/kernel/x86/%_avx512.o: CFLAGS += $(AVX512)
$O/obj/src/kernel/x86/%_avx512bf16.o: CFLAGS += $(AVX512) -mavx512bf16

$O/obj/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<

$O/liblookfar.a: $(LIB_OBJ)
	rm -f $@ && ar rcs $@ $^

$O/liblookfar.so: $(LIB_OBJ)
	$(CC) $(CFLAGS) -shared -Wl,-soname,liblookfar.so.0 -o $@ $^ $(LIBS)

$O/lookfar: $(APP_OBJ) $O/liblookfar.a
	$(CC) $(CFLAGS) -o $@ $^ $(LIBS)

$O/tests/%: $O/obj/tests/%.o $(HELP_OBJ) $O/liblookfar.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -o $@ $^ -lcmocka $(LIBS)

$O/fuzz/%: $O/obj/fuzz/%.o $O/liblookfar.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -fsanitize=fuzzer -o $@ $^ $(LIBS)

-include $(shell find build -name '*.d' 2>/dev/null)
