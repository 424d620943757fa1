/* The metadata keys of a tokenizer in a GGUF file. */
#ifndef LF_TOKEN_GGUF_KEYS_H
#define LF_TOKEN_GGUF_KEYS_H

#define LF_GGUF_MODEL          "tokenizer.ggml.model"
#define LF_GGUF_PRE            "tokenizer.ggml.pre"
#define LF_GGUF_TOKENS         "tokenizer.ggml.tokens"
#define LF_GGUF_TOKEN_TYPE     "tokenizer.ggml.token_type"
#define LF_GGUF_SCORES         "tokenizer.ggml.scores"
#define LF_GGUF_MERGES         "tokenizer.ggml.merges"
#define LF_GGUF_BOS            "tokenizer.ggml.bos_token_id"
#define LF_GGUF_EOS            "tokenizer.ggml.eos_token_id"
#define LF_GGUF_EOT            "tokenizer.ggml.eot_token_id"
#define LF_GGUF_EOM            "tokenizer.ggml.eom_token_id"
#define LF_GGUF_UNKNOWN        "tokenizer.ggml.unknown_token_id"
#define LF_GGUF_ADD_BOS        "tokenizer.ggml.add_bos_token"
#define LF_GGUF_SPACE_PREFIX   "tokenizer.ggml.add_space_prefix"
#define LF_GGUF_EXTRA_SPACES   "tokenizer.ggml.remove_extra_whitespaces"
#define LF_GGUF_CHAT_TEMPLATE  "tokenizer.chat_template"
#define LF_GGUF_CHAT_TEMPLATES "tokenizer.chat_templates" /* the names of those besides the default */
#define LF_GGUF_CHAT_TOOL_USE  "tokenizer.chat_template.tool_use"

/* Not of the GGUF standard: the text is normalised to NFC first, as Qwen2's own tokenizer does. */
#define LF_GGUF_NFC "lookfar.tokenizer.nfc"

#endif
