/* Trajectory files: the states that Jacobi decoding went through, prompt by prompt, written once and
 * mapped afterwards.
 *
 *   header    128 bytes, below
 *   records   one for each prompt, in the order of the prompts
 *
 *   header     0 "LFTRAJEC"     8 u32 version (1)     12 u32 n_vocab          16 u64 hash of the vocabulary
 *             24 u64 hash of the model                32 u64 hash of the prompts
 *             40 u64 n_prompts                        48 u32 n                52 u32 fill
 *             56 u64 seed      64 f32 temperature     68 f32 top_p            72 f32 min_p     76 u32 top_k
 *             80 u32 max_tokens 84 f32 augment        88 u32 repeat_tokens    92 u32 repeat_sentences
 *             96 zeros        120 u64 hash of the header before it
 *   record     0 "TRAJ"          4 u32 why it was dropped, or 0                8 u64 number of the prompt
 *             16 u32 n_prompt   20 u32 n_blocks       24 u32 sum of n_states  28 u32 n_output
 *             32 u32 passes     36 u32 stationary     40 f64 fast_forwarded
 *             48 u64 hash of the body                 56 u64 hash of the head before it
 *             64 body: i32 prompt (n_prompt), i32 n_states (n_blocks), i32 states (sum of n_states, n), zeros up to 8 bytes
 *
 * All numbers are little-endian. A dropped prompt has a record without a body, so that a file says what
 * became of every prompt and where a collection goes on. A file grows by whole records; one that ends
 * inside a record, or in zeros, was cut off there by a crash, and what is left of that record does not
 * count. Any other damage is an error that names the record. */
#ifndef LF_TRAIN_TRAJECTORY_H
#define LF_TRAIN_TRAJECTORY_H

#include "base/map.h"

#define LF_TRAJECTORY_MAGIC "LFTRAJEC"
enum { LF_TRAJECTORY_VERSION = 1, LF_TRAJECTORY_HEADER = 128, LF_TRAJECTORY_HEAD = 64 };
enum { LF_TRAJECTORY_N_MAX = 64 }; /* tokens of a block at most */

/* One prompt's decoding in blocks of n tokens (CLLM, arXiv 2403.00835, section 3.2): of each block all
 * states that Jacobi iterations went through, the first guess first, the fixed point last. */
typedef struct lf_trajectory {
    const int32_t *prompt; /* (n_prompt) */
    int n_prompt;
    int n; /* tokens of a block */
    int n_blocks;
    const int32_t *n_states; /* (n_blocks) at least 1 */
    const int32_t *states;   /* (sum of n_states, n): block after block, state after state */
    int n_output; /* tokens of the output, an end-of-sequence token included: more than (n_blocks - 1) * n and at most
                     n_blocks * n. Behind it every state of the last block is filled with its last token, the end of sequence */
} lf_trajectory;

/* Why a prompt has no trajectory. */
typedef enum lf_trajectory_drop {
    LF_TRAJECTORY_KEPT,
    LF_TRAJECTORY_TOO_LONG,         /* prompt and a block do not fit the context */
    LF_TRAJECTORY_EMPTY,            /* the output is nothing but an end of sequence */
    LF_TRAJECTORY_REPEATS_TOKEN,    /* a run of one token */
    LF_TRAJECTORY_REPEATS_SENTENCE, /* a run of one sentence */
    LF_TRAJECTORY_DROP_COUNT
} lf_trajectory_drop;

/* What is known of a prompt's decoding besides its states: counted before states were augmented. */
typedef struct lf_trajectory_note {
    int64_t i_prompt; /* from 0, in the file of prompts */
    lf_trajectory_drop drop;
    int n_output;
    int passes;            /* passes over blocks, the confirming ones included */
    int stationary;        /* as CLLM counts, summed over the blocks (trajectory_count.h) */
    double fast_forwarded; /* as CLLM counts: the mean over the blocks */
} lf_trajectory_note;

/* Where a block's first guess comes from. */
typedef enum lf_trajectory_fill {
    LF_TRAJECTORY_FILL_PROMPT, /* tokens of prompt and output so far, at random (CLLM) */
    LF_TRAJECTORY_FILL_NGRAM,  /* what followed an earlier occurrence of the last tokens; else as above */
    LF_TRAJECTORY_FILL_COUNT
} lf_trajectory_fill;

/* What a file says about all its records. Two files with the same info have the same bytes. */
typedef struct lf_trajectory_info {
    int n_vocab;
    uint64_t vocab_hash; /* lf_token_info's */
    uint64_t model_hash; /* of the logits after a fixed text: whatever changes an output changes it */
    uint64_t prompts_hash;
    int64_t n_prompts; /* the file is complete when it has as many records */
    int n;             /* 2 to LF_TRAJECTORY_N_MAX */
    lf_trajectory_fill fill;
    uint64_t seed;
    float temperature, top_p, min_p;
    int top_k;
    int max_tokens;       /* of an output, whole blocks */
    float augment;        /* share of a state's wrong tokens that were set right afterwards */
    int repeat_tokens;    /* a run as long as this drops a prompt; 0: none does */
    int repeat_sentences; /* the same for sentences */
} lf_trajectory_info;

typedef struct lf_trajectory_file {
    lf_trajectory_info info;
    int64_t n;         /* trajectories: records that were not dropped */
    int64_t n_records; /* prompts with a record */
    int64_t n_dropped[LF_TRAJECTORY_DROP_COUNT];
    size_t torn_bytes; /* of a record at the end that a crash cut off; not counted */
    /* the rest is read by the functions below */
    lf_map map; /* empty for a parsed buffer */
    const uint8_t *data;
    size_t *offsets; /* (n) of the records that were not dropped, owned */
} lf_trajectory_file;

/* Checked whole: afterwards every id is below n_vocab and every size holds. LF_EIO; LF_ENOMEM; LF_EFORMAT,
 * naming the record, for anything that is not as above. */
lf_status lf_trajectory_file_open(lf_trajectory_file *out, const char *path, lf_error *err);

/* The same for bytes in memory, 8-byte aligned, which must outlive the file; `name` is for errors. */
lf_status lf_trajectory_file_parse(lf_trajectory_file *out, const uint8_t *data, size_t size,
                                   const char *name, lf_error *err);
void lf_trajectory_file_close(lf_trajectory_file *f); /* a zeroed file is fine */

/* Trajectory i of n, its pointers into the mapping, and what is known of it. */
lf_trajectory lf_trajectory_file_get(const lf_trajectory_file *f, int64_t i);
lf_trajectory_note lf_trajectory_file_note(const lf_trajectory_file *f, int64_t i);

/* ---- writing ---- */

typedef struct lf_trajectory_writer lf_trajectory_writer;

/* Makes the file, or goes on with one of the same info: *n_records is how many prompts it has already, and
 * a record that a crash cut off is removed. LF_EINVAL, naming what differs, for a file of other info;
 * LF_EFORMAT for a damaged one; LF_EIO, also when another writer has it open. */
lf_status lf_trajectory_writer_open(lf_trajectory_writer **out, int64_t *n_records, const char *path,
                                    const lf_trajectory_info *info, lf_error *err);

/* Appends the record of the next prompt; t is NULL for a dropped one. note->i_prompt must be the number of
 * records so far. */
lf_status lf_trajectory_writer_add(lf_trajectory_writer *w, const lf_trajectory *t,
                                   const lf_trajectory_note *note, lf_error *err);

/* Brings what was added to the disk. */
lf_status lf_trajectory_writer_sync(lf_trajectory_writer *w, lf_error *err);
void lf_trajectory_writer_close(lf_trajectory_writer *w); /* does not sync; NULL is fine */

#endif
