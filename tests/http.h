/* HTTP as a test speaks it: over blocking sockets to this machine, byte by byte where that matters, so that it can also be spoken badly.
 * Answers, their JSON and their streams of events, looked into. Whatever is not as expected fails the running test. */
#ifndef LF_TESTS_HTTP_H
#define LF_TESTS_HTTP_H

#include "base/mem.h"

#include <jansson.h>

int connect_to(int port);

/* false: the server closed, which it may do to those who misbehave. body NULL: none. */
bool send_text(int fd, const char *text, size_t len);
bool send_request(int fd, const char *method, const char *path, const char *headers, const char *body);

/* ---- answers ---- */

typedef struct answer {
    int status;
    lf_bytes head, body; /* the body without the marks of chunks */
    json_t *json;        /* the body, if it is JSON */
} answer;

void free_answer(answer *a);
void expect_status(const answer *a, int status);

/* One more byte; -1 at the end. */
int read_byte(int fd);

/* An answer's head; one chunk of its body, appended, until false; or all of it. false: there was none. */
bool read_head(int fd, answer *a);
bool read_chunk(int fd, lf_bytes *out);
bool read_answer(int fd, answer *a);

/* One request on a connection of its own. */
answer call_port(int port, const char *method, const char *path, const char *headers, const char *body);

/* A member by a path such as "choices.0.text"; fails when it is not there. */
const json_t *at(const json_t *root, const char *path);
const char *text_at(const json_t *root, const char *path);
int int_at(const json_t *root, const char *path);

/* ---- streams ---- */

enum { STREAM_CHOICES = 8 };

/* What a stream said, added up. */
typedef struct stream {
    lf_bytes text[STREAM_CHOICES]; /* by choice */
    char finish[STREAM_CHOICES][16];
    int n_chunks, n_done, n_errors, n_comments;
    json_t *usage; /* of the last chunk, or NULL */
} stream;

stream parse_stream(const answer *a);
void free_stream(stream *s);

#endif
