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
    int budget;       /* positions; 0: BUDGET_MIN or a share of the sequence */
    bool is_given;    /* the user gave the budget */
    float *mass;    /* (n_lists, stride) attention that the target gave, fading; NULL for LF_SELECT_WINDOW */
    int32_t *tiles; /* (n_lists, view.n_selected) */
    bool has_lists; /* the view is of some choice */
    bool is_fresh;  /* mass is of a target pass that no choice has seen; set by who adds to it */
    bool was_asked; /* for a view, since the last target pass */
    int n_passes;   /* target passes since mass was added to */
    lf_view view;
} lf_tile_choice;

/* For sequences of up to n_ctx positions. LF_ENOMEM. */
lf_status lf_tile_choice_init(lf_tile_choice *c, lf_selection kind, int budget, int n_lists, int n_ctx,
                              lf_error *err);
void lf_tile_choice_free(lf_tile_choice *c); /* a zeroed choice is fine */

/* Budgets that are worth trying for a sequence of len positions: the one that was given, or a few that half the sequence is not
 * less than; ascending, each with its place on the ladder, which is the same for every sequence. Returns how many. */
enum { LF_BUDGETS = 4 };
int lf_tile_choice_ladder(const lf_tile_choice *c, int len, int budgets[LF_BUDGETS], int places[LF_BUDGETS]);

/* Takes another budget, one of the ladder: lists are then chosen anew. */
void lf_tile_choice_set_budget(lf_tile_choice *c, int budget);

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
