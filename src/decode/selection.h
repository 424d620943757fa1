/* Which tiles of its cache a sequence drafts over: a sparse view (kv/kv.h) of the first tile, the most recent ones, and, for each
 * layer and KV head, those between them that got the most attention. */
#ifndef LF_DECODE_SELECTION_H
#define LF_DECODE_SELECTION_H

#include "base/threads.h"
#include "decode/seq.h"

typedef struct lf_tile_choice {
    lf_selection kind;
    int n_lists;      /* layers times KV heads */
    int stride;       /* of mass: tiles of the longest sequence */
    int selected_max; /* tiles of a list at most */
    int budget;       /* positions, as the user gave it; 0: BUDGET_MIN or a share of the sequence */
    float *mass;    /* (n_lists, stride) attention that the target gave, fading; NULL for LF_SELECT_WINDOW */
    int32_t *tiles; /* (n_lists, view.n_selected) */
    bool has_lists; /* the view is of some choice */
    bool is_fresh;  /* mass is of a target pass that no choice has seen; set by who adds to it */
    lf_view view;
} lf_tile_choice;

/* For sequences of up to n_ctx positions. LF_ENOMEM. */
lf_status lf_tile_choice_init(lf_tile_choice *c, lf_selection kind, int budget, int n_lists, int n_ctx,
                              lf_error *err);
void lf_tile_choice_free(lf_tile_choice *c); /* a zeroed choice is fine */

/* Whether a sequence of len positions is longer than the budget: otherwise there is nothing to leave out. */
bool lf_tile_choice_is_sparse(const lf_tile_choice *c, int len);

/* Positions that a sequence of len positions drafts over. */
int lf_tile_choice_budget(const lf_tile_choice *c, int len);

/* Makes the view for a sequence of len positions, which is_sparse. True: its lists are to be chosen anew, because there is a
 * new target pass or none were; then lf_tile_choice_make_list is called for each of them. False: only the recent tiles move on. */
bool lf_tile_choice_update(lf_tile_choice *c, int len);

/* Chooses list i (0 .. n_lists - 1); lists may be made by several threads. scratch: (stride) floats. */
void lf_tile_choice_make_list(lf_tile_choice *c, int i, float *scratch);

#endif
