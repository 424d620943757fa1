/* What the pictures of `lookfar plot` share, and those of files that are no logs. */
#ifndef LF_APP_PLOT_H
#define LF_APP_PLOT_H

#include "app.h"

/* Calls on_line for each object of a file of JSON lines; false from it ends the reading. A last line that is not whole, as a killed run
 * leaves it, is passed over. Returns the number of lines, or -1 with a message. */
typedef bool plot_line_fn(void *cookie, const json_t *object);
int plot_read_lines(const char *path, plot_line_fn *on_line, void *cookie);
int plot_count_lines(const char *path);

/* title (size) becomes as much of a text as it holds, without what would end a string of gnuplot's; "?" for NULL. */
void plot_set_title(char *title, size_t size, const char *text);

/* Whether a line is a result of `bench magicdec`, and a picture of files of such. Returns the exit status. */
bool plot_is_result(const json_t *object);
int plot_grid(const char *const *paths, int n_paths, const char *output);

/* The same for results of `bench acceptance`. */
bool plot_is_acceptance(const json_t *object);
int plot_acceptance(const char *const *paths, int n_paths, const char *output);

/* The same for logs of distillations, 16 at most. */
bool plot_is_distill(const json_t *object);
int plot_distill(const char *const *paths, int n_paths, const char *output);

/* The same for results of `eval`. */
bool plot_is_eval(const json_t *object);
int plot_eval(const char *const *paths, int n_paths, const char *output);

/* The same for results of `bench serve`. */
bool plot_is_serve(const json_t *object);
int plot_serve(const char *const *paths, int n_paths, const char *output);

#endif
