/* The loop of a training run, whatever it learns: what lf_train and lf_distill_train have in common.
 *
 *   lf_loop_enter    folder locked, tokenizer
 *   lf_loop_open     weights, network, optimiser
 *   lf_loop_start    checkpoint read (resume), log opened
 *   lf_loop_run      for each step    batch -> forward and backward -> [checkpoint] -> AdamW -> log, event
 *                                     [validation] [samples]
 *                    validation -> checkpoint
 *   lf_loop_export   model.gguf
 *
 * A checkpoint that is due is written inside a step, of the weights before it, once the step's loss and
 * gradient have shown that these are good. Nothing that depends on time enters the weights. */
#ifndef LF_TRAIN_LOOP_H
#define LF_TRAIN_LOOP_H

#include "train/net.h"
#include "train/train_folder.h"
#include "train/train_model.h"
#include "train/train_optim.h"

typedef struct lf_loop lf_loop;

/* What a run learns: its batches, their loss, and how what was learned is judged. */
typedef struct lf_loop_task {
    void *self;
    int64_t n_draws; /* of an epoch: what a cursor's i_draw stays below */
    /* draws the batch of the step after `state` and moves the cursor; the rows in it */
    int64_t (*draw)(void *self, const lf_checkpoint_state *state, lf_data_cursor *cursor);
    /* *loss = that of the batch; its gradient is added to grad */
    lf_status (*learn)(void *self, double *loss, float *grad, lf_net *net, lf_error *err);
    /* adds what it knows of the step to the event and to the line of the log (which may be NULL); false:
     * no memory. May be NULL */
    bool (*describe)(void *self, lf_train_event *event, json_t *line);
    /* measures, logs and tells; sets *loss. NULL: nothing to validate on */
    lf_status (*validate)(void *self, double *loss, lf_loop *loop, lf_error *err);
    /* what it remembers between validations, kept by checkpoints; n = 0: nothing. A task that remembers is
     * judged at the start, too, and a resumed run makes up for a validation that it was stopped before:
     * judged_step says when the last was */
    lf_checkpoint_buffer memory;
    int64_t (*judged_step)(const void *self);
} lf_loop_task;

struct lf_loop {
    lf_train_params p; /* checked */
    lf_train_folder folder;
    lf_train_model model;
    lf_net *net;
    lf_train_optim optim;
    lf_loop_task task;
    json_t *identity;
    lf_checkpoint_state state; /* after the last step taken */
    int64_t checkpoint_ns;     /* when the last one was written */
    double step_seconds;       /* running mean; 0: no step yet */
    double loss, valid_loss;
    int64_t valid_step; /* of the last validation, -1: none */
    bool stops;         /* on_event said so */
    bool ends;          /* the task said so: the run is over before its last step */
};

/* Checks the parameters and zeroes the rest. LF_EINVAL. */
lf_status lf_loop_init(lf_loop *l, const lf_train_params *params, lf_error *err);

lf_status lf_loop_enter(lf_loop *l, lf_error *err);
lf_status lf_loop_open(lf_loop *l, lf_error *err);

/* Takes the reference to identity, which may be NULL for want of memory. */
lf_status lf_loop_start(lf_loop *l, const lf_loop_task *task, json_t *identity, lf_error *err);

/* LF_ECANCELED when it was stopped, with a checkpoint; LF_EDIVERGED. */
lf_status lf_loop_run(lf_loop *l, lf_error *err);

/* Writes the weights as they are to a GGUF file; the second to model.gguf, and says so. */
lf_status lf_loop_write_model(const lf_loop *l, const char *path, lf_error *err);
lf_status lf_loop_export(lf_loop *l, lf_error *err);

void lf_loop_close(lf_loop *l); /* an initialised loop is fine */

/* Fills in what all events have, and tells on_event. */
void lf_loop_tell(lf_loop *l, lf_train_event *event);

/* "FOLDER: step N: found WHAT of X; the last good checkpoint is kept" */
lf_status lf_loop_fail_diverged(const lf_loop *l, int64_t i_step, const char *what, double found,
                                lf_error *err);

#endif
