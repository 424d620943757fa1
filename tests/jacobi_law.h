/* The law for models that were made for Jacobi decoding: whatever is asked of a request and whoever is in the batch, it says with every
 * kind of window what it says plainly. */
#ifndef LF_TESTS_JACOBI_LAW_H
#define LF_TESTS_JACOBI_LAW_H

typedef struct law_counts {
    long n_outputs; /* compared */
    long jacobi,
        chosen_by_auto; /* guesses accepted of windows that were free: with `jacobi`, and where `auto` chose it */
    long tried_by_auto; /* guesses verified where `auto` chose it */
    long drafted;       /* candidates accepted that Jacobi iterations over a sparse view drafted */
} law_counts;

/* Requests of all kinds (greedy, sampled, filtered, penalised, biased, with log probabilities, stop strings and grammars), 1 to 16
 * together, with windows of fixed and free size, `auto`, and Jacobi drafts over a sparse view, where rows cost nothing. The model has a
 * tokenizer. Fails the test where an output differs in a token, a log probability, its text or its end. */
law_counts expect_jacobi_law(const char *model_path);

#endif
