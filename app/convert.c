/* lookfar convert and lookfar quantize: model files into GGUF. Both are one library call with a progress line. */
#include "app.h"

#include <string.h>

enum { OPT_TOKENIZER = 0x200 };

typedef struct convert_options {
    lf_convert_params params;
    lf_convert_result result;
    bool quantize, quiet;
    app_progress progress;
} convert_options;

static const struct argp_option convert_argp_options[] = {
    {"type", 'T', "TYPE", 0,
     "type of the matrices (default: as in the input): f32, f16, bf16, q8_0, q4_0, q4_k, q5_k, q6_k", 0},
    {"tokenizer", OPT_TOKENIZER, "FILE", 0, "tokenizer.model or tokenizer.bin for a llama2.c file", 0},
    {"threads", 't', "N", 0, "threads (default: one for each processor)", 0},
    {"quiet", 'q', NULL, 0, "no progress", 0},
    {0},
};

static const struct argp_option quantize_argp_options[] = {
    {"threads", 't', "N", 0, "threads (default: one for each processor)", 0},
    {"quiet", 'q', NULL, 0, "no progress", 0},
    {0},
};

static error_t parse_argument(convert_options *o, char *arg, struct argp_state *state)
{
    if (state->arg_num == 0)
        o->params.input_path = arg;
    else if (state->arg_num == 1)
        o->params.output_path = arg;
    else if (state->arg_num == 2 && o->quantize)
        o->params.dtype = (int)app_parse_dtype(state, "TYPE", arg);
    else
        app_usage_error(state, "found argument \"%s\", expected no more", arg);
    return 0;
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    convert_options *o = state->input;
    switch (key) {
    case 'T': o->params.dtype = (int)app_parse_dtype(state, "--type", arg); return 0;
    case OPT_TOKENIZER: o->params.tokenizer_path = arg; return 0;
    case 't': o->params.n_threads = (int)app_parse_int(state, "--threads", arg, 0, 256); return 0;
    case 'q': o->quiet = true; return 0;
    case ARGP_KEY_ARG: return parse_argument(o, arg, state);
    case ARGP_KEY_END:
        if (state->arg_num < (o->quantize ? 3u : 2u))
            app_usage_error(state, "found %u arguments, expected %s", state->arg_num,
                            o->quantize ? "INPUT OUTPUT TYPE" : "INPUT OUTPUT");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static bool on_progress(void *cookie, size_t done, size_t total)
{
    convert_options *o = cookie;
    app_progress_draw(&o->progress, total ? (double)done / (double)total : 1.0);
    return !app_interrupted;
}

static void print_result(const convert_options *o)
{
    (void)fprintf(stderr, "%s: %d tensors", o->params.output_path, o->result.n_tensors);
    if (o->result.n_fallback > 0)
        (void)fprintf(stderr, ", %d of them as q8_0 or f16: their rows are not whole blocks of %s",
                      o->result.n_fallback, lf_dtype_name((lf_dtype)o->params.dtype));
    (void)fputc('\n', stderr);
}

static int convert(int argc, char **argv, const struct argp *argp, bool quantize)
{
    convert_options o = {.quantize = quantize, .result.size = sizeof o.result};
    lf_error err = {0};
    lf_convert_params_init(&o.params);
    app_parse_args(argp, argc, argv, &o);
    app_catch_interrupt();
    app_progress_start(&o.progress, quantize ? "quantizing" : "converting", o.quiet);
    o.params.progress = on_progress;
    o.params.cookie = &o;
    o.params.result = &o.result;
    const lf_status status = quantize ? lf_quantize(&o.params, &err) : lf_convert(&o.params, &err);
    app_progress_clear(&o.progress);
    if (status != LF_OK) return app_fail(&err);
    if (!o.quiet) print_result(&o);
    return 0;
}

int app_convert(int argc, char **argv)
{
    static const struct argp argp = {convert_argp_options,
                                     parse_option,
                                     "INPUT OUTPUT",
                                     "Writes a GGUF file from a Hugging Face folder or a llama2.c .bin file.",
                                     NULL,
                                     NULL,
                                     NULL};
    return convert(argc, argv, &argp, false);
}

int app_quantize(int argc, char **argv)
{
    static const struct argp argp = {
        quantize_argp_options,
        parse_option,
        "INPUT OUTPUT TYPE",
        "Writes a GGUF file with other element types: f32, f16, bf16, q8_0, q4_0, q4_k, q5_k or q6_k.",
        NULL,
        NULL,
        NULL};
    return convert(argc, argv, &argp, true);
}
