/* Model files into GGUF v3, laid out and named as llama.cpp's own converter does it, so that both engines read it.
 *
 * All three take the parameters of lookfar.h, already checked, and stream: rows are read from the mapped input, converted
 * by a team of threads, and written, a few megabytes at a time. The output's bytes depend on the input and the type alone.
 * The file appears under params->output_path when it is complete; a failed or canceled run leaves none.
 *
 * Norms, biases and rope_freqs are f32 in every output. Matrices get params->dtype, with these exceptions:
 *   -1             each matrix keeps the type it has
 *   q4_k, q5_k     token_embd and output become q6_k: they decide the logits
 *   whole blocks   where a row is not a multiple of the type's block, the matrix becomes q8_0 if rows are multiples of 32,
 *                  else f16; params->result counts these
 *
 * Errors, besides those of opening the input: LF_EFORMAT for a weight that is not finite or too large for its type, or a
 * vocabulary larger than the embedding; LF_EIO for the output; LF_ECANCELED; LF_ENOMEM. */
#ifndef LF_CONVERT_CONVERT_H
#define LF_CONVERT_CONVERT_H

#include "base/status.h"

/* A Hugging Face folder: config.json, safetensors, and the tokenizer's files where there are any. */
lf_status lf_convert_hf(const lf_convert_params *params, lf_error *err);

/* A llama2.c file of the first format ("legacy", 7 integers and float32 weights), with params->tokenizer_path: llama2.c's
 * tokenizer.bin, any other tokenizer file, or NULL for a GGUF without a tokenizer. */
lf_status lf_convert_llama2c(const lf_convert_params *params, lf_error *err);

/* A GGUF file with other element types; params->dtype is not -1. Metadata is kept. */
lf_status lf_quantize_gguf(const lf_convert_params *params, lf_error *err);

#endif
