#include "decode/proposer.h"

#include <string.h>

bool lf_proposer_find(const char *name, const lf_proposer_ops **out)
{
    static const lf_proposer_ops *const all[] = {&lf_proposer_ngram, &lf_proposer_jacobi};
    *out = NULL;
    if (strcmp(name, "none") == 0) return true;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (strcmp(name, all[i]->name) != 0) continue;
        *out = all[i];
        return true;
    }
    return false;
}
