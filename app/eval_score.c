/* What is scored in an output. */
#include "eval.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- pieces ---- */

static bool is_word_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c & 0x80) != 0;
}

static bool add_token(eval_tokens *t, const char *begin, size_t len)
{
    if (t->n == t->room) {
        const size_t room = t->room ? 2 * t->room : 64;
        eval_token *list = realloc(t->list, room * sizeof *list);
        if (!list) return false;
        t->list = list;
        t->room = room;
    }
    t->list[t->n++] = (eval_token){begin, len};
    return true;
}

void eval_free_tokens(eval_tokens *t)
{
    free(t->list);
    *t = (eval_tokens){0};
}

/* Runs of word characters (and, in names, _), and, where `others`, single other characters but spaces. */
static bool split_text(eval_tokens *out, const char *text, bool others)
{
    bool ok = true;
    *out = (eval_tokens){0};
    for (size_t len; *text && ok; text += len) {
        for (len = 0; is_word_char(text[len]) || (others && text[len] == '_');) len++;
        if (len > 0) {
            ok = add_token(out, text, len);
        } else {
            len = 1;
            if (others && !strchr(" \t\n\r\f\v", *text)) ok = add_token(out, text, len);
        }
    }
    if (!ok) eval_free_tokens(out);
    return ok;
}

bool eval_split_code(eval_tokens *out, const char *text)
{
    return split_text(out, text, true);
}

bool eval_split_words(eval_tokens *out, const char *text)
{
    return split_text(out, text, false);
}

static bool same_token(const eval_token *a, const eval_token *b)
{
    return a->len == b->len && memcmp(a->begin, b->begin, a->len) == 0;
}

static bool same_word(const eval_token *a, const eval_token *b)
{
    return a->len == b->len && strncasecmp(a->begin, b->begin, a->len) == 0;
}

/* ---- SQL as text ---- */

/* Lower case outside quotes, and one kind of quotes, in place. */
static void fold_sql(char *text)
{
    char quote = '\0';
    for (; *text; text++) {
        if (quote) {
            if (*text != quote) continue;
            quote = '\0';
            *text = '\'';
        } else if (*text == '\'' || *text == '"') {
            quote = *text;
            *text = '\'';
        } else if (*text >= 'A' && *text <= 'Z') {
            *text = (char)(*text - 'A' + 'a');
        }
    }
}

double eval_same_sql(const char *a, const char *b)
{
    lf_bytes x = {0}, y = {0};
    double score = -1;
    if (eval_normalise_sql(&x, a) && eval_normalise_sql(&y, b)) {
        fold_sql(x.data);
        fold_sql(y.data);
        score = strcmp(x.data, y.data) == 0;
    }
    lf_bytes_free(&x);
    lf_bytes_free(&y);
    return score;
}

/* ---- numbers ---- */

/* The number behind the last ####, to the end of its line, without commas and currency signs. */
static bool final_number(double *out, const char *text)
{
    char digits[64];
    size_t n = 0;
    const char *mark = NULL;
    for (const char *at = text; (at = strstr(at, "####")) != NULL; at += 4) mark = at + 4;
    if (!mark) return false;
    for (; *mark && *mark != '\n' && n + 1 < sizeof digits; mark++)
        if (!strchr(", $%\t\r", *mark)) digits[n++] = *mark;
    digits[n] = '\0';
    char *end;
    *out = strtod(digits, &end);
    return n > 0 && end != digits && strspn(end, ".") == strlen(end) && isfinite(*out);
}

double eval_same_number(const char *output, const char *reference)
{
    double a, b;
    return final_number(&a, output) && final_number(&b, reference) && fabs(a - b) <= 1e-9 * fmax(1, fabs(b));
}

/* ---- distances ---- */

typedef bool same_fn(const eval_token *a, const eval_token *b);

/* Levenshtein's distance, or, with `common`, the length of the longest common subsequence, by rows of the table. -1: no
 * memory. */
static double align(const eval_tokens *a, const eval_tokens *b, same_fn *same, bool common)
{
    size_t *row = calloc(b->n + 1, sizeof *row);
    if (!row) return -1;
    for (size_t j = 0; j <= b->n && !common; j++) row[j] = j;
    for (size_t i = 0; i < a->n; i++) {
        size_t diagonal = row[0];
        if (!common) row[0] = i + 1;
        for (size_t j = 0; j < b->n; j++) {
            const size_t up = row[j + 1], left = row[j];
            const bool equal = same(&a->list[i], &b->list[j]);
            if (common) {
                row[j + 1] = equal ? diagonal + 1 : up > left ? up : left;
            } else {
                const size_t least = up < left ? up : left;
                row[j + 1] = equal ? diagonal : 1 + (diagonal < least ? diagonal : least);
            }
            diagonal = up;
        }
    }
    const double result = (double)row[b->n];
    free(row);
    return result;
}

double eval_edit_similarity(const char *a, const char *b)
{
    eval_tokens x = {0}, y = {0};
    double score = -1;
    if (eval_split_code(&x, a) && eval_split_code(&y, b)) {
        const double distance = align(&x, &y, same_token, false);
        const size_t longer = x.n > y.n ? x.n : y.n;
        score = distance < 0 ? -1 : longer == 0 ? 1 : 1 - distance / (double)longer;
    }
    eval_free_tokens(&x);
    eval_free_tokens(&y);
    return score;
}

double eval_rouge_l(const char *output, const char *reference)
{
    eval_tokens x = {0}, y = {0};
    double score = -1;
    if (eval_split_words(&x, output) && eval_split_words(&y, reference)) {
        const double common = align(&x, &y, same_word, true);
        score = common < 0 ? -1 : x.n + y.n == 0 ? 1 : 2 * common / (double)(x.n + y.n);
    }
    eval_free_tokens(&x);
    eval_free_tokens(&y);
    return score;
}

/* ---- BLEU ---- */

static bool same_ngram(const eval_token *a, const eval_token *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!same_token(&a[i], &b[i])) return false;
    return true;
}

/* Each n-gram of the output takes one of the reference that is not taken yet. */
static bool match_ngrams(double *matched, const eval_tokens *x, const eval_tokens *y, size_t n)
{
    bool *taken = calloc(y->n + 1, sizeof *taken);
    if (!taken) return false;
    for (size_t i = 0; i + n <= x->n; i++)
        for (size_t j = 0; j + n <= y->n; j++)
            if (!taken[j] && same_ngram(x->list + i, y->list + j, n)) {
                taken[j] = true;
                *matched += 1;
                break;
            }
    free(taken);
    return true;
}

bool eval_add_bleu(eval_bleu *b, const char *output, const char *reference)
{
    eval_tokens x = {0}, y = {0};
    bool ok = eval_split_code(&x, output) && eval_split_code(&y, reference);
    for (size_t n = 1; n <= 4 && ok; n++) {
        ok = match_ngrams(&b->matched[n - 1], &x, &y, n);
        b->found[n - 1] += x.n >= n ? (double)(x.n - n + 1) : 0;
    }
    b->output_len += (double)x.n;
    b->reference_len += (double)y.n;
    eval_free_tokens(&x);
    eval_free_tokens(&y);
    return ok;
}

double eval_bleu_score(const eval_bleu *b)
{
    double sum = 0;
    for (int n = 0; n < 4; n++) {
        if (b->matched[n] == 0) return 0;
        sum += log(b->matched[n] / b->found[n]) / 4;
    }
    const double brevity = b->output_len < b->reference_len ? 1 - b->reference_len / b->output_len : 0;
    return exp(sum + brevity);
}

/* ---- Python ---- */

/* Reads a JSON list of texts and prints a digit for each. */
static const char parse_script[] = "import ast,json,sys\n"
                                   "for text in json.load(open(sys.argv[1], encoding=\"utf-8\")):\n"
                                   "    try: ast.parse(text); print(1)\n"
                                   "    except Exception: print(0)\n";

static bool write_list(int fd, const char *const *texts, size_t n)
{
    json_t *list = json_array();
    bool ok = list != NULL;
    for (size_t i = 0; i < n && ok; i++) {
        json_t *text = json_string(texts[i]);
        if (!text) text = json_string("("); /* not UTF-8, so no Python */
        ok = json_array_append_new(list, text) == 0;
    }
    ok = ok && json_dumpfd(list, fd, 0) == 0;
    json_decref(list);
    return ok;
}

bool eval_python_parses(bool *parses, const char *const *texts, size_t n)
{
    const char *folder = getenv("TMPDIR");
    char path[512], command[1536];
    (void)snprintf(path, sizeof path, "%.400s/lookfar-eval-XXXXXX", folder && *folder ? folder : "/tmp");
    if (strpbrk(path, "'\n")) return false; /* the shell quotes it */
    const int fd = mkstemp(path);
    if (fd < 0) return false;
    bool ok = write_list(fd, texts, n);
    (void)close(fd);
    (void)snprintf(command, sizeof command, "python3 -c '%s' '%s' 2>/dev/null", parse_script, path);
    FILE *f = ok ? popen(command, "r") : NULL;
    for (size_t i = 0; f && ok && i < n; i++) {
        const int digit = fgetc(f);
        ok = (digit == '0' || digit == '1') && fgetc(f) == '\n';
        parses[i] = digit == '1';
    }
    if (f && pclose(f) != 0) ok = false;
    (void)unlink(path);
    return f && ok;
}
