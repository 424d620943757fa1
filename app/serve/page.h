/* The page that comes with the server: files of page/, built into the program. */
#ifndef LF_SERVE_PAGE_H
#define LF_SERVE_PAGE_H

#include "server.h"

void serve_handle_page(serve_exchange *x);

#endif
