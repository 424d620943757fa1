/* Which tiles the sparse proposer drafts over: a wrong one costs acceptance and no token, so no test of outputs sees it. */
#include "testing.h"

#include "decode/selection.h"

#include <stdlib.h>
#include <string.h>

enum { N_CTX = 4096, N_LISTS = 3, N_TILES = N_CTX / LF_TILE_POS };

typedef struct fixture {
    lf_tile_choice c;
    float scratch[N_TILES];
    uint64_t rng;
} fixture;

static void open_choice(fixture *f, lf_selection kind, int budget)
{
    lf_error err;
    f->rng = 7;
    assert_ok(lf_tile_choice_init(&f->c, kind, budget, N_LISTS, N_CTX, &err), &err);
    assert_int_equal(f->c.stride, N_TILES);
    assert_true((f->c.mass == NULL) == (kind == LF_SELECT_WINDOW));
}

/* A target pass: attention everywhere. */
static void add_mass(fixture *f)
{
    for (int i = 0; i < N_LISTS * N_TILES; i++) f->c.mass[i] += (float)(rng_next(&f->rng) % 1000) / 1000.0f;
    f->c.is_fresh = true;
}

static bool choose(fixture *f, int len)
{
    const bool anew = lf_tile_choice_update(&f->c, len);
    for (int i = 0; anew && i < N_LISTS; i++) lf_tile_choice_make_list(&f->c, i, f->scratch);
    return anew;
}

static const int32_t *list_of(const fixture *f, int i)
{
    return f->c.view.selected + (size_t)i * (size_t)f->c.view.n_selected;
}

static bool has_tile(const fixture *f, int i, int tile)
{
    for (int j = 0; j < f->c.view.n_selected; j++)
        if (list_of(f, i)[j] == tile) return true;
    return tile >= f->c.view.recent_tile;
}

/* As many tiles as the budget has, with the first and the last ones, each once, ascending. */
static void check_view(const fixture *f, int len)
{
    const lf_view *v = &f->c.view;
    const int n_tiles = len / LF_TILE_POS + 1;
    assert_int_equal((v->n_selected + n_tiles - v->recent_tile) * LF_TILE_POS,
                     lf_tile_choice_budget(&f->c, len));
    assert_true(n_tiles - v->recent_tile >= 3); /* the one being written, and two whole ones */
    for (int i = 0; i < N_LISTS; i++) {
        const int32_t *list = list_of(f, i);
        assert_int_equal(list[0], 0);
        for (int j = 1; j < v->n_selected; j++) assert_true(list[j - 1] < list[j]);
        assert_true(list[v->n_selected - 1] < v->recent_tile);
    }
}

/* Between the first tile and the recent ones, no tile that was left out had more attention than one that was not. */
static void check_heaviest(const fixture *f, const float *mass)
{
    for (int i = 0; i < N_LISTS; i++) {
        const float *m = mass + i * N_TILES;
        float least = 1e9f, most = -1.0f;
        for (int j = 1; j < f->c.view.n_selected; j++)
            if (m[list_of(f, i)[j]] < least) least = m[list_of(f, i)[j]];
        for (int t = 1; t < f->c.view.recent_tile; t++)
            if (!has_tile(f, i, t) && m[t] > most) most = m[t];
        assert_true(most <= least);
    }
}

static float *copy_mass(const fixture *f)
{
    float *copy = malloc(sizeof(float) * N_LISTS * N_TILES);
    assert_non_null(copy);
    memcpy(copy, f->c.mass, sizeof(float) * N_LISTS * N_TILES);
    return copy;
}

static void test_budgets(void **state)
{
    (void)state;
    static const struct {
        int budget, len, positions;
    } cases[] = {{0, 300, 256},  {0, 4095, 256}, {0, 5000, 320}, {0, 16384, 1024},
                 {64, 4000, 64}, {65, 4000, 80}, {1, 4000, 64},  {512, 600, 512}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const lf_tile_choice c = {.kind = LF_SELECT_VERIFY, .budget = cases[i].budget};
        assert_int_equal(lf_tile_choice_budget(&c, cases[i].len), cases[i].positions);
        assert_true(lf_tile_choice_is_sparse(&c, cases[i].len));
        if (cases[i].budget == 0) continue; /* a shorter sequence has a smaller one */
        assert_false(lf_tile_choice_is_sparse(&c, cases[i].positions - 1));
        assert_true(lf_tile_choice_is_sparse(&c, cases[i].positions));
    }
}

static void test_window(void **state)
{
    (void)state;
    fixture f;
    open_choice(&f, LF_SELECT_WINDOW, 160);
    for (int len = 160; len < 1000; len += 7) {
        assert_true(choose(&f, len) == (len == 160)); /* afterwards only the recent tiles move on */
        check_view(&f, len);
        assert_int_equal(f.c.view.n_selected, 1);
        assert_int_equal(f.c.view.recent_tile, len / LF_TILE_POS + 1 - 9);
    }
    lf_tile_choice_free(&f.c);
}

/* Chosen once, by the prompt's attention, however much comes later. */
static void test_snap(void **state)
{
    (void)state;
    fixture f;
    open_choice(&f, LF_SELECT_SNAP, 256);
    add_mass(&f);
    float *mass = copy_mass(&f);
    assert_true(choose(&f, 2000));
    check_view(&f, 2000);
    check_heaviest(&f, mass);
    const int first = list_of(&f, 2)[1];
    for (int len = 2001; len < 2100; len++) {
        add_mass(&f);
        assert_false(choose(&f, len));
        check_view(&f, len);
        assert_int_equal(list_of(&f, 2)[1], first);
    }
    free(mass);
    lf_tile_choice_free(&f.c);
}

/* Chosen anew after every target pass and only then, older ones counting half. */
static void test_verify(void **state)
{
    (void)state;
    fixture f;
    open_choice(&f, LF_SELECT_VERIFY, 256);
    int n_changed = 0;
    for (int len = 1000; len < 1200; len += 3) {
        const int32_t before = len > 1000 ? list_of(&f, 0)[1] : -1;
        add_mass(&f);
        float *mass = copy_mass(&f);
        assert_true(choose(&f, len));
        check_view(&f, len);
        check_heaviest(&f, mass);
        n_changed += list_of(&f, 0)[1] != before;
        for (int i = 0; i < N_LISTS * N_TILES; i++) assert_true(f.c.mass[i] == mass[i] * 0.5f);
        assert_false(choose(&f, len)); /* no pass since */
        free(mass);
    }
    assert_true(n_changed > 10);
    lf_tile_choice_free(&f.c);
}

/* One tile that everything looks at is drafted over, wherever it is, from the first pass that looked at it on; and is not any more when
 * attention has long been elsewhere. */
static void test_a_heavy_tile_is_chosen(void **state)
{
    (void)state;
    fixture f;
    const int len = 2000, n_tiles = len / LF_TILE_POS + 1;
    for (int tile = 0; tile < n_tiles; tile++) {
        open_choice(&f, LF_SELECT_VERIFY, 128);
        add_mass(&f);
        (void)choose(&f, len);
        for (int i = 0; i < N_LISTS; i++) f.c.mass[i * N_TILES + tile] += 50.0f;
        f.c.is_fresh = true;
        assert_true(choose(&f, len));
        for (int i = 0; i < N_LISTS; i++) assert_true(has_tile(&f, i, tile));
        for (int pass = 0; pass < 20; pass++) {
            add_mass(&f);
            for (int i = 0; i < N_LISTS; i++)
                f.c.mass[i * N_TILES + tile] -= 0.9f * f.c.mass[i * N_TILES + tile];
            assert_true(choose(&f, len));
        }
        if (tile > 0 && tile < f.c.view.recent_tile) assert_false(has_tile(&f, 0, tile));
        lf_tile_choice_free(&f.c);
    }
}

/* With equal attention the first tiles are chosen, and as many as there is room for. */
static void test_ties(void **state)
{
    (void)state;
    fixture f;
    open_choice(&f, LF_SELECT_VERIFY, 256);
    for (int i = 0; i < N_LISTS * N_TILES; i++) f.c.mass[i] = 1.0f;
    assert_true(choose(&f, 1000));
    check_view(&f, 1000);
    for (int j = 0; j < f.c.view.n_selected; j++) assert_int_equal(list_of(&f, 1)[j], j);
    lf_tile_choice_free(&f.c);
}

/* Budgets of the ladder, up and down, without a target pass between: each has its own lists of the heaviest tiles, in the room that was
 * taken at first; and the same budget again changes nothing. */
static void test_budgets_are_changed(void **state)
{
    (void)state;
    static const int budgets[] = {128, 512, 256, 128, 256};
    static const lf_selection kinds[] = {LF_SELECT_WINDOW, LF_SELECT_SNAP, LF_SELECT_VERIFY};
    for (int k = 0; k < 3; k++) {
        fixture f;
        open_choice(&f, kinds[k], 0);
        if (f.c.mass) add_mass(&f);
        for (int i = 0; i < 5; i++) {
            lf_tile_choice_set_budget(&f.c, budgets[i]);
            assert_int_equal(lf_tile_choice_budget(&f.c, 2000), budgets[i]);
            float *mass = f.c.mass ? copy_mass(&f) : NULL;
            assert_true(choose(&f, 2000));
            check_view(&f, 2000);
            if (mass) check_heaviest(&f, mass);
            free(mass);
            lf_tile_choice_set_budget(&f.c, budgets[i]);
            assert_false(choose(&f, 2001));
            check_view(&f, 2001);
        }
        lf_tile_choice_free(&f.c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_budgets),
        cmocka_unit_test(test_window),
        cmocka_unit_test(test_snap),
        cmocka_unit_test(test_verify),
        cmocka_unit_test(test_a_heavy_tile_is_chosen),
        cmocka_unit_test(test_ties),
        cmocka_unit_test(test_budgets_are_changed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
