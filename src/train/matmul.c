#include "train/matmul.h"

#include <dnnl.h>
#include <stdlib.h>

/* A compiled product. The memory objects hold no memory: each run points them at its operands. */
typedef struct compiled {
    lf_product product;
    dnnl_primitive_t primitive;
    dnnl_memory_t a, b, c;
} compiled;

/* A net has some 15 products for each number of rows that it meets. */
enum { N_COMPILED = 64 };

struct lf_matmul {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    compiled list[N_COMPILED];
    int n;      /* used of the list */
    int i_next; /* where the next goes: the oldest, once the list is full */
};

static lf_status fail_dnnl(lf_error *err, const char *what, dnnl_status_t found)
{
    if (found == dnnl_out_of_memory) return lf_fail(err, LF_ENOMEM, "oneDNN: %s: out of memory", what);
    return lf_fail(err, LF_EUNSUPPORTED, "oneDNN: %s: found status %d (%s), expected success", what,
                   (int)found,
                   found == dnnl_unimplemented ? "not implemented on this processor" : "see dnnl_status_t");
}

#define DNNL_TRY(what, expr)                                                                                 \
    do {                                                                                                     \
        const dnnl_status_t found_ = (expr);                                                                 \
        if (found_ != dnnl_success) {                                                                        \
            status = fail_dnnl(err, what, found_);                                                           \
            goto done;                                                                                       \
        }                                                                                                    \
    } while (0)

lf_status lf_matmul_create(lf_matmul **out, lf_error *err)
{
    lf_status status = LF_OK;
    lf_matmul *mm = calloc(1, sizeof *mm);
    if (!mm) return lf_fail_memory(err, "products", sizeof *mm);
    DNNL_TRY("engine", dnnl_engine_create(&mm->engine, dnnl_cpu, 0));
    DNNL_TRY("stream", dnnl_stream_create(&mm->stream, mm->engine, dnnl_stream_default_flags));
done:
    if (status != LF_OK) {
        lf_matmul_free(mm);
        mm = NULL;
    }
    *out = mm;
    return status;
}

static void free_compiled(compiled *c)
{
    (void)dnnl_memory_destroy(c->c);
    (void)dnnl_memory_destroy(c->b);
    (void)dnnl_memory_destroy(c->a);
    (void)dnnl_primitive_destroy(c->primitive);
    *c = (compiled){0};
}

void lf_matmul_free(lf_matmul *mm)
{
    if (!mm) return;
    for (int i = 0; i < mm->n; i++) free_compiled(&mm->list[i]);
    (void)dnnl_stream_destroy(mm->stream);
    (void)dnnl_engine_destroy(mm->engine);
    free(mm);
}

static dnnl_status_t describe(dnnl_memory_desc_t *out, int rows, int cols, bool transposed, lf_dtype dtype)
{
    const dnnl_dims_t dims = {rows, cols}, strides = {transposed ? 1 : cols, transposed ? rows : 1};
    return dnnl_memory_desc_init_by_strides(out, 2, dims, dtype == LF_DTYPE_BF16 ? dnnl_bf16 : dnnl_f32,
                                            strides);
}

static lf_status compile(lf_matmul *mm, compiled *out, const lf_product *p, lf_error *err)
{
    lf_status status = LF_OK;
    dnnl_memory_desc_t a, b, c;
    dnnl_matmul_desc_t desc;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_post_ops_t post_ops = NULL;
    dnnl_primitive_desc_t primitive_desc = NULL;
    *out = (compiled){.product = *p};
    DNNL_TRY("shape of a", describe(&a, p->m, p->k, p->a_transposed, p->in));
    DNNL_TRY("shape of b", describe(&b, p->k, p->n, p->b_transposed, p->in));
    DNNL_TRY("shape of c", describe(&c, p->m, p->n, false, p->out));
    DNNL_TRY("product", dnnl_matmul_desc_init(&desc, &a, &b, NULL, &c));
    DNNL_TRY("attributes", dnnl_primitive_attr_create(&attr));
    if (p->add) {
        DNNL_TRY("sum", dnnl_post_ops_create(&post_ops));
        DNNL_TRY("sum", dnnl_post_ops_append_sum(post_ops, 1.0f));
        DNNL_TRY("sum", dnnl_primitive_attr_set_post_ops(attr, post_ops));
    }
    DNNL_TRY(p->in == LF_DTYPE_BF16 ? "bf16 product" : "float product",
             dnnl_primitive_desc_create(&primitive_desc, &desc, attr, mm->engine, NULL));
    DNNL_TRY("product", dnnl_primitive_create(&out->primitive, primitive_desc));
    DNNL_TRY("operand", dnnl_memory_create(&out->a, &a, mm->engine, DNNL_MEMORY_NONE));
    DNNL_TRY("operand", dnnl_memory_create(&out->b, &b, mm->engine, DNNL_MEMORY_NONE));
    DNNL_TRY("result", dnnl_memory_create(&out->c, &c, mm->engine, DNNL_MEMORY_NONE));
done:
    (void)dnnl_primitive_desc_destroy(primitive_desc);
    (void)dnnl_post_ops_destroy(post_ops);
    (void)dnnl_primitive_attr_destroy(attr);
    if (status != LF_OK) free_compiled(out);
    return status;
}

static bool is_same(const lf_product *x, const lf_product *y)
{
    return x->m == y->m && x->n == y->n && x->k == y->k && x->a_transposed == y->a_transposed &&
           x->b_transposed == y->b_transposed && x->add == y->add && x->in == y->in && x->out == y->out;
}

static lf_status find_compiled(lf_matmul *mm, compiled **out, const lf_product *p, lf_error *err)
{
    for (int i = 0; i < mm->n; i++) {
        if (!is_same(&mm->list[i].product, p)) continue;
        *out = &mm->list[i];
        return LF_OK;
    }
    compiled fresh;
    const lf_status status = compile(mm, &fresh, p, err);
    if (status != LF_OK) return status;
    *out = &mm->list[mm->i_next];
    if (mm->i_next < mm->n)
        free_compiled(*out);
    else
        mm->n++;
    **out = fresh;
    mm->i_next = (mm->i_next + 1) % N_COMPILED;
    return LF_OK;
}

lf_status lf_matmul_run(lf_matmul *mm, const lf_product *product, void *c, const void *a, const void *b,
                        lf_error *err)
{
    compiled *found = NULL;
    lf_status status = LF_OK;
    LF_TRY(find_compiled(mm, &found, product, err));
    /* oneDNN takes void * for what it only reads, too. */
    DNNL_TRY("operand", dnnl_memory_set_data_handle(found->a, (void *)a));
    DNNL_TRY("operand", dnnl_memory_set_data_handle(found->b, (void *)b));
    DNNL_TRY("result", dnnl_memory_set_data_handle(found->c, c));
    const dnnl_exec_arg_t args[] = {
        {DNNL_ARG_SRC, found->a}, {DNNL_ARG_WEIGHTS, found->b}, {DNNL_ARG_DST, found->c}};
    DNNL_TRY("execution", dnnl_primitive_execute(found->primitive, mm->stream, 3, args));
    DNNL_TRY("execution", dnnl_stream_wait(mm->stream));
done:
    return status;
}
