#include "decode/selection.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
    SINK_TILES = 1, /* 16 positions: StreamingLLM finds 4 to be enough */
    BUDGET_MIN = 256,
    BUDGET_SHARE = 16,   /* a sixteenth of the sequence */
    BUDGET_LEAST = 128,  /* of the ladder: twice as much at each place, */
    BUDGET_MOST = 512,   /* up to this, then a share of the sequence */
    RECENT_SHARE = 4,    /* of the budget that is not the sink, a quarter is recent tiles */
    RECENT_TILES_MIN = 3 /* with the tile that is being written */
};

/* A pass counts twice as much as the one before it. */
static const float fading = 0.5f;

static int max_int(int a, int b)
{
    return a > b ? a : b;
}

/* Tiles of the budget for a sequence of len positions. */
static int budget_tiles(const lf_tile_choice *c, int len)
{
    const int budget = c->budget > 0 ? c->budget : max_int(BUDGET_MIN, len / BUDGET_SHARE);
    return max_int((budget + LF_TILE_POS - 1) / LF_TILE_POS, SINK_TILES + RECENT_TILES_MIN);
}

lf_status lf_tile_choice_init(lf_tile_choice *c, lf_selection kind, int budget, int n_lists, int n_ctx,
                              lf_error *err)
{
    *c = (lf_tile_choice){.kind = kind,
                          .n_lists = n_lists,
                          .stride = (n_ctx + LF_TILE_POS - 1) / LF_TILE_POS,
                          .budget = budget,
                          .is_given = budget > 0};
    c->selected_max = budget_tiles(c, n_ctx);
    if (!c->is_given) c->selected_max = max_int(c->selected_max, BUDGET_MOST / LF_TILE_POS);
    const size_t tiles = (size_t)n_lists * (size_t)c->selected_max,
                 mass = (size_t)n_lists * (size_t)c->stride;
    c->tiles = malloc(tiles * sizeof *c->tiles);
    c->mass = kind == LF_SELECT_WINDOW ? NULL : calloc(mass, sizeof *c->mass);
    if (c->tiles && (c->mass || kind == LF_SELECT_WINDOW)) return LF_OK;
    lf_tile_choice_free(c);
    return lf_fail_memory(err, "a selection of tiles", mass * sizeof *c->mass);
}

void lf_tile_choice_free(lf_tile_choice *c)
{
    free(c->tiles);
    free(c->mass);
    *c = (lf_tile_choice){0};
}

int lf_tile_choice_budget(const lf_tile_choice *c, int len)
{
    return budget_tiles(c, len) * LF_TILE_POS;
}

int lf_tile_choice_ladder(const lf_tile_choice *c, int len, int budgets[LF_BUDGETS], int places[LF_BUDGETS])
{
    int n = 0;
    if (c->is_given) {
        budgets[0] = c->budget;
        places[0] = LF_BUDGETS - 1;
        return lf_tile_choice_is_sparse(c, len - 1);
    }
    for (int budget = BUDGET_LEAST; budget <= BUDGET_MOST && 2 * budget <= len; budget *= 2) {
        budgets[n] = budget;
        places[n] = n;
        n++;
    }
    if (len / BUDGET_SHARE > BUDGET_MOST) {
        budgets[n] = len / BUDGET_SHARE / LF_TILE_POS * LF_TILE_POS;
        places[n] = LF_BUDGETS - 1;
        n++;
    }
    return n;
}

void lf_tile_choice_set_budget(lf_tile_choice *c, int budget)
{
    c->has_lists = c->has_lists && budget == c->budget;
    c->budget = budget;
    assert(budget_tiles(c, 0) <= c->selected_max);
}

bool lf_tile_choice_is_sparse(const lf_tile_choice *c, int len)
{
    return len / LF_TILE_POS + 1 > budget_tiles(c, len);
}

/* The k-th largest of x (n), 1 <= k <= n; x is put in another order. Hoare's selection. */
static float kth_largest(float *x, int n, int k)
{
    int first = 0, last = n - 1;
    while (first < last) {
        const float pivot = x[first + (last - first) / 2];
        int i = first, j = last;
        while (i <= j) {
            while (x[i] > pivot) i++;
            while (x[j] < pivot) j--;
            if (i > j) break;
            const float t = x[i];
            x[i++] = x[j];
            x[j--] = t;
        }
        if (k - 1 <= j)
            last = j;
        else if (k - 1 >= i)
            first = i;
        else
            break;
    }
    return x[k - 1];
}

/* The n tiles of [begin, end) with the most mass, ascending; of equal ones the first. */
static void choose_heaviest(int32_t *out, int n, const float *mass, int begin, int end, float *scratch)
{
    if (n == 0) return;
    memcpy(scratch, mass + begin, (size_t)(end - begin) * sizeof *mass);
    const float least = kth_largest(scratch, end - begin, n);
    int n_above = 0;
    for (int i = begin; i < end; i++) n_above += mass[i] > least;
    int n_equal = n - n_above;
    for (int i = begin; i < end; i++)
        if (mass[i] > least || (mass[i] == least && n_equal-- > 0)) *out++ = i;
}

bool lf_tile_choice_update(lf_tile_choice *c, int len)
{
    const int n_tiles = len / LF_TILE_POS + 1, budget = budget_tiles(c, len);
    const int n_recent = c->kind == LF_SELECT_WINDOW
                             ? budget - SINK_TILES
                             : max_int((budget - SINK_TILES) / RECENT_SHARE, RECENT_TILES_MIN);
    const bool chooses = !c->has_lists || (c->is_fresh && c->kind == LF_SELECT_VERIFY);
    assert(n_tiles > budget);
    c->view.recent_tile = n_tiles - n_recent;
    c->is_fresh = false;
    if (!chooses) return false;
    c->has_lists = true;
    c->view.n_selected = budget - n_recent;
    c->view.selected = c->tiles;
    return true;
}

void lf_tile_choice_make_list(lf_tile_choice *c, int i, float *scratch)
{
    const int n = c->view.n_selected;
    int32_t *list = c->tiles + (size_t)i * (size_t)n;
    for (int j = 0; j < SINK_TILES; j++) list[j] = j;
    if (n == SINK_TILES) return;
    float *mass = c->mass + (size_t)i * (size_t)c->stride;
    choose_heaviest(list + SINK_TILES, n - SINK_TILES, mass, SINK_TILES, c->view.recent_tile, scratch);
    for (int j = 0; c->kind == LF_SELECT_VERIFY && j < c->stride; j++) mass[j] *= fading;
}
