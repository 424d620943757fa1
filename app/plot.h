/* What the pictures of `lookfar plot` share: reading JSON lines, and gnuplot. */
#ifndef LF_APP_PLOT_H
#define LF_APP_PLOT_H

#include "app.h"

/* Calls on_line for each object of a file of JSON lines; false from it ends the reading. A last line that is not whole, as a killed run
 * leaves it, is passed over. Returns the number of lines, or -1 with a message. */
typedef bool plot_line_fn(void *cookie, const json_t *object);
int plot_read_lines(const char *path, plot_line_fn *on_line, void *cookie);

/* Starts gnuplot with its picture going to `output`; NULL and a message when it cannot. Ending returns the exit status, with a message
 * when nothing could be drawn. */
FILE *plot_begin(const char *output);
int plot_end(FILE *f, const char *output);

/* Whether a line is a result of `bench magicdec`, and a picture of files of such. Returns the exit status. */
bool plot_is_result(const json_t *object);
int plot_grid(const char *const *paths, int n_paths, const char *output);

#endif
