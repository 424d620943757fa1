/* lookfar: the command. Each subcommand is one file of this folder. */
#include "app.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct command {
    const char *name;
    app_command_fn *run;
    const char *summary;
} commands[] = {
    {"run", app_run, "generate text from a prompt"},
    {"serve", app_serve, "serve a model by OpenAI's HTTP API, with a page to chat"},
    {"inspect", app_inspect, "show what a model file holds and what it takes to run"},
    {"convert", app_convert, "write a GGUF file from a Hugging Face folder or a llama2.c file"},
    {"quantize", app_quantize, "write a GGUF file with other element types"},
    {"model-cost", app_model_cost, "predict what speculation gains for a model and a machine"},
    {"bench", app_bench, "measure speed"},
    {"train", app_train, "train a model on text"},
    {"distill", app_distill, "make a model that decodes several tokens per pass"},
    {"eval", app_eval, "score a model on held-out questions"},
    {"plot", app_plot, "draw the curves of training runs"},
};

enum { N_COMMANDS = sizeof commands / sizeof *commands };

static void print_help(FILE *f)
{
    (void)fprintf(
        f, "Usage: lookfar COMMAND [OPTION...]\n"
           "Runs LLaMA-family language models, several tokens per pass, without changing a token.\n\n");
    for (size_t i = 0; i < N_COMMANDS; i++)
        (void)fprintf(f, "  %-10s %s\n", commands[i].name, commands[i].summary);
    (void)fprintf(
        f, "\n`lookfar COMMAND --help` lists the options of a command; `lookfar --version` the version.\n");
}

/* Whatever went to standard output and did not arrive (a full disk) is an error, reported here once for all commands. */
static void check_output(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout)) return;
    (void)fprintf(stderr, "lookfar: standard output: cannot write: %s\n", strerror(errno));
    _exit(EXIT_FAIL);
}

int main(int argc, char **argv)
{
    if (atexit(check_output) != 0) return EXIT_FAIL;
    if (argc < 2) {
        print_help(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        print_help(stdout);
        return 0;
    }
    if (strcmp(argv[1], "--version") == 0) {
        (void)printf("lookfar %s\n", lf_version());
        return 0;
    }
    for (size_t i = 0; i < N_COMMANDS; i++) {
        if (strcmp(argv[1], commands[i].name) != 0) continue;
        char name[64];
        (void)snprintf(name, sizeof name, "lookfar %s", commands[i].name);
        argv[1] = name;
        return commands[i].run(argc - 1, argv + 1);
    }
    (void)fprintf(stderr, "lookfar: found command \"%s\", expected one of", argv[1]);
    for (size_t i = 0; i < N_COMMANDS; i++) (void)fprintf(stderr, " %s", commands[i].name);
    (void)fprintf(stderr, "\n");
    return EXIT_USAGE;
}
