#include "grammar_fixture.h"

bool is_alive(lf_machine *m, const lf_bytes *text, bool *may_end)
{
    uint16_t state = LF_STATE_START;
    for (size_t i = 0; i < text->len; i++) state = lf_machine_step(m, state, (uint8_t)text->data[i], &state);
    *may_end = lf_machine_may_end(m, state);
    return state != LF_STATE_DEAD;
}
