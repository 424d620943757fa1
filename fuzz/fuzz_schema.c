/* JSON schemas and regular expressions of strangers, as the first byte says: they are refused, or every text that a walk through the
 * machine makes can be gone on with. */
#include "grammar/compile.h"
#include "grammar/machine.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { STEPS = 300 };

/* A byte that goes on from a state, found from where the walk's choice points; or -1. */
static int find_byte(lf_machine *m, uint16_t *state, uint8_t choice, uint16_t *next)
{
    for (int i = 0; i < 256; i++) {
        const uint8_t byte = (uint8_t)(choice + i);
        *next = lf_machine_step(m, *state, byte, state);
        if (*next != LF_STATE_DEAD) return byte;
    }
    return -1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    lf_exprs exprs;
    lf_machine *m = NULL;
    lf_error err;
    if (size < 1) return 0;
    const lf_grammar_kind kind = (lf_grammar_kind)(data[0] % 4);
    if (lf_grammar_build(&exprs, kind, (const char *)data + 1, size - 1, &err) == LF_OK &&
        lf_machine_create(&m, &exprs, &err) == LF_OK) {
        uint16_t state = LF_STATE_START, next;
        for (int i = 0; i < STEPS; i++) {
            const uint8_t choice = (uint8_t)(data[(size_t)i % size] * 7 + i);
            if (find_byte(m, &state, choice, &next) < 0) {
                assert(lf_machine_may_end(m, state)); /* no dead ends */
                break;
            }
            state = next;
        }
    }
    lf_machine_free(m);
    lf_exprs_free(&exprs);
    return 0;
}
