/* Pictures: a script goes to gnuplot, which draws them. */
#include "app.h"

#include <errno.h>
#include <string.h>
#include <sys/wait.h>

enum { GNUPLOT_MISSING = 127 };

const char *app_gnuplot_terminal(const char *name)
{
    const size_t n = strlen(name);
    if (strchr(name, '\'') || strchr(name, '\n')) return NULL; /* a script quotes it */
    if (n > 4 && strcmp(name + n - 4, ".png") == 0) return "pngcairo size 1000,900";
    if (n > 4 && strcmp(name + n - 4, ".svg") == 0) return "svg size 1000,900";
    return NULL;
}

FILE *app_gnuplot_open(const char *output)
{
    (void)signal(SIGPIPE, SIG_IGN); /* gnuplot's exit status says what happened */
    FILE *f = popen("gnuplot", "w");
    if (f)
        (void)fprintf(f, "set terminal %s\nset output '%s'\n", app_gnuplot_terminal(output), output);
    else
        (void)fprintf(stderr, "lookfar: gnuplot: cannot start: %s\n", strerror(errno));
    return f;
}

int app_gnuplot_close(FILE *f, const char *output)
{
    (void)fputc('\n', f);
    const int status = pclose(f);
    if (status == 0) return 0;
    if (WIFEXITED(status) && WEXITSTATUS(status) == GNUPLOT_MISSING)
        (void)fprintf(stderr, "lookfar: gnuplot: not found; install it to draw (Debian: gnuplot-nox)\n");
    else
        (void)fprintf(stderr, "lookfar: %s: gnuplot could not draw it\n", output);
    return EXIT_FAIL;
}
