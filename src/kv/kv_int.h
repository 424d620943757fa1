/* What kv.c and prefix.c share: pages by number. */
#ifndef LF_KV_KV_INT_H
#define LF_KV_KV_INT_H

#include "kv/kv.h"

int32_t lf_kv_seq_page(const lf_kv_seq *seq, int i_page);
void lf_kv_seq_share_page(lf_kv_seq *seq, int32_t page,
                          int n_pos); /* appends a page holding n_pos more positions */
void lf_kv_page_ref(lf_kv_pool *pool, int32_t page);
void lf_kv_page_unref(lf_kv_pool *pool, int32_t page);
/* The prefix cache's reference to a page that a sequence has, taken and given back. */
void lf_kv_page_keep(lf_kv_pool *pool, int32_t page);
void lf_kv_page_let_go(lf_kv_pool *pool, int32_t page);
int32_t lf_kv_page_n_refs(const lf_kv_pool *pool, int32_t page);

#endif
