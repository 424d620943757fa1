/* Inputs of a run as token files. */
#include "train/train.h"

#include "base/mem.h"
#include "train/data_text.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

lf_status lf_train_tell(const lf_train_params *p, lf_train_event *event, lf_error *err)
{
    event->size = sizeof *event;
    if (!p->on_event || p->on_event(p->cookie, event)) return LF_OK;
    return lf_fail(err, LF_ECANCELED, "%s: stopped", p->out_dir);
}

typedef struct preparing {
    const lf_train_params *params;
    const char *path;
} preparing;

static bool on_progress(void *cookie, size_t done, size_t total)
{
    const preparing *p = cookie;
    lf_train_event event = {
        .kind = LF_TRAIN_PREPARING, .path = p->path, .share = (double)done / (double)total};
    return lf_train_tell(p->params, &event, NULL) == LF_OK;
}

/* out = folder/data/ROLE-I-NAME.tokens, where NAME is the last part of the input's path. */
static void name_token_file(char *out, const lf_train_folder *folder, const char *role, int i,
                            const char *input)
{
    char name[256];
    const char *slash = strrchr(input, '/');
    (void)snprintf(name, sizeof name, "data/%s-%d-%.200s.tokens", role, i, slash ? slash + 1 : input);
    (void)lf_train_folder_file(out, folder, name);
}

static lf_status check_tokens(const lf_token_file *f, const char *path, const lf_tokenizer *tokenizer,
                              lf_error *err)
{
    const lf_token_info info = lf_data_token_info(tokenizer);
    if (f->info.n_vocab == info.n_vocab && f->info.vocab_hash == info.vocab_hash) return LF_OK;
    return lf_fail(
        err, LF_EINVAL,
        "%s: found tokens of another tokenizer (vocabulary of %d, hash %016llx), expected %d, hash %016llx",
        path, f->info.n_vocab, (unsigned long long)f->info.vocab_hash, info.n_vocab,
        (unsigned long long)info.vocab_hash);
}

static lf_status open_input(lf_token_file *out, const lf_train_params *p, const char *made_path,
                            const char *path, const lf_tokenizer *tokenizer, lf_error *err)
{
    preparing progress = {p, path};
    const lf_data_text_options options = {.separator = p->separator,
                                          .template = p->prompt_template,
                                          .response = p->response_field,
                                          .train_prompt = p->train_prompt,
                                          .progress = on_progress,
                                          .cookie = &progress};
    const bool ready = lf_token_file_is(path);
    lf_status status = ready ? LF_OK : lf_data_text_prepare(made_path, path, tokenizer, &options, err);
    if (status == LF_OK) status = lf_token_file_open(out, ready ? path : made_path, err);
    return status == LF_OK ? check_tokens(out, path, tokenizer, err) : status;
}

lf_status lf_train_files_open(lf_train_files *out, const lf_train_params *p, const lf_train_folder *folder,
                              const lf_tokenizer *tokenizer, lf_error *err)
{
    lf_status status = LF_OK;
    char made_path[LF_TRAIN_PATH_MAX];
    const int n = p->n_data + p->n_valid;
    *out = (lf_train_files){.list = calloc((size_t)n, sizeof *out->list)};
    if (!out->list) return lf_fail_memory(err, "token files", (size_t)n * sizeof *out->list);
    out->n = n;
    for (int i = 0; i < n; i++) {
        const bool is_data = i < p->n_data;
        const char *path = is_data ? p->data[i].path : p->valid[i - p->n_data].path;
        name_token_file(made_path, folder, is_data ? "train" : "valid", is_data ? i : i - p->n_data, path);
        LF_TRY(open_input(&out->list[i], p, made_path, path, tokenizer, err));
    }
done:
    if (status != LF_OK) lf_train_files_close(out);
    return status;
}

void lf_train_files_close(lf_train_files *f)
{
    for (int i = 0; i < f->n; i++) lf_token_file_close(&f->list[i]);
    free(f->list);
    *f = (lf_train_files){0};
}
