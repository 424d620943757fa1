/* The folder of a run, which one run holds at a time:
 *
 *   lock          locked (flock) while a run uses the folder
 *   log.jsonl     what happened, an object a line; cut back to the checkpoint's step on resuming
 *   checkpoint    checkpoint.h
 *   model.gguf    the result
 *   sample.gguf   while samples are made
 *   data/         token files made from the inputs */
#ifndef LF_TRAIN_TRAIN_FOLDER_H
#define LF_TRAIN_TRAIN_FOLDER_H

#include "base/status.h"

#include <jansson.h>
#include <stdio.h>

enum { LF_TRAIN_PATH_MAX = 1024 };

typedef struct lf_train_folder {
    char path[LF_TRAIN_PATH_MAX / 2];
    int lock; /* descriptor; 0: not open */
    FILE *log;
} lf_train_folder;

/* Makes the folder and locks it. LF_EIO when another run holds it. */
lf_status lf_train_folder_open(lf_train_folder *out, const char *path, lf_error *err);
void lf_train_folder_close(lf_train_folder *f); /* a zeroed folder is fine */

/* out (LF_TRAIN_PATH_MAX) = the path of a file in the folder; the result is out. */
const char *lf_train_folder_file(char *out, const lf_train_folder *f, const char *name);

/* Opens the log, keeping its first `keep` bytes. LF_EFORMAT when it is shorter. */
lf_status lf_train_folder_open_log(lf_train_folder *f, int64_t keep, lf_error *err);

/* Writes a line and takes the reference; NULL is an object that there was no memory for. */
lf_status lf_train_folder_log(lf_train_folder *f, json_t *object, lf_error *err);

/* Brings the log to the disk; *bytes: what it holds. */
lf_status lf_train_folder_sync_log(lf_train_folder *f, int64_t *bytes, lf_error *err);

#endif
