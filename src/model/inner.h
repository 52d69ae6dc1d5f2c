/* Inside of the model room: what a model type fills in, and the parts its networks are made of. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_MODEL_INNER_H
#define ST_MODEL_INNER_H

#include "model/model.h"

/* ---- the list of parameters (table.c) -------------------------------------------------------- */

/* A row of table.c: one kind of network. */
typedef struct st_model_type {
    const char *name, *also[4]; /* "model_type" in config.json; others of its shape, or NULL */
    /* It may also be "strut_NAME", where code beside the weights computes it: transformers' own
     * class of that name would not know "strut" and make up the structured matrices. */
    bool code;
    const char *prefix; /* what Hugging Face has before its names, but for the head's */
    /* Reads its keys, makes m->net and adds every parameter through the builder. */
    st_status (*open)(st_model *m, const json_t *config, st_err *e);
    void (*close)(st_model *m);           /* m->net may be absent or half made */
    json_t *(*config)(const st_model *m); /* its keys, without "strut"; NULL when out of memory */
    const struct st_lm_family *lm;        /* a language model's (lm.c), or NULL */
    st_globs globs;                       /* of its blocks' matrices */
    /* Classifiers of images: */
    st_vision_shape (*vision)(const st_model *m);
    void (*classify)(st_model *m, st_stream *q, const st_vision_args *a, st_arena *tmp);
} st_model_type;

extern const st_model_type st_model_gpt2, st_model_llama, st_model_t2tvit;

/* Runs `run` on a dry stream like `q` with counting arenas and `m` bound to weights of dtype t
 * (and, if `grad`, gradients) on one: the peak of `tmp`, SIZE_MAX where it fits no machine, and the
 * cost. (plan.c) */
typedef void st_plan_fn(st_model *m, st_stream *dry, const void *args, st_arena *mem,
                        st_arena *tmp);
st_status st_plan_run(st_model *m, const st_stream *q, st_dtype t, bool grad, st_plan_fn *run,
                      const void *args, size_t *bytes, st_cost *cost, st_err *e);

typedef struct {
    st_param p;
    int64_t matrix;    /* index into st_model.matrix, or -1 */
    st_tensor *w, *dw; /* where the network wants its views; dw absent when not training */
} st_model_entry;

struct st_model {
    const st_model_type *type;
    void *net;
    struct st_lm *lm; /* what lm.c keeps of a language model, set by its open; else NULL */
    json_t *labels;   /* id2label and label2id of config.json, handed on as they are */
    st_model_entry *entry;
    st_slot *matrix; /* names are ours; specs are inside the network */
    int64_t entries, entry_cap, matrices, matrix_cap, elements;
    st_tensor weights, grads; /* as bound; mixed: no elements, the first byte and the dtype */
    bool mixed, pack;         /* how st_model_bind_mixed bound them */
    st_tap tap;
};

typedef struct {
    st_tensor gain, bias, dgain, dbias;
    bool rms;  /* rows keep their mean; no bias */
    bool less; /* the gain is stored less 1 */
} st_norm;

/* Collects parameters in the order of the network; remembers the first error and then does nothing,
 * so that a network's list reads from top to bottom. */
typedef struct {
    st_model *m;
    const json_t *maps; /* GLOB -> SPEC, or NULL */
    bool *used;         /* by entry of maps: some matrix matched */
    bool exact;         /* the next matrix is an embedding: matched by its own name only */
    int64_t layer;      /* of what is added next; -1: of no block */
    st_err *e;
    st_status status;
} st_builder;

/* Sets the formats that config["strut"]["quantize"] names (quantize.c); adds them to `config`. */
st_status st_quantize_read(st_model *m, const json_t *config, st_err *e);
void st_quantize_print(const st_model *m, json_t *config);
/* Reads config["strut"]; st_builder_close refuses globs that matched nothing and ends the list. */
st_status st_builder_open(st_builder *b, st_model *m, const json_t *config, st_err *e);
st_status st_builder_close(st_builder *b);
void st_add_tensor(st_builder *b, const char *name, int ndim, const int64_t *dim, float std,
                   unsigned flags, st_tensor *w, st_tensor *dw);
/* The tensor added last starts otherwise than with normal numbers; is for that. */
void st_add_fill(st_builder *b, st_param_fill *fill);
void st_add_role(st_builder *b, st_role role);
/* Positions 0, 1, ... of (1, n, width): sin and cos of position / 10000^(2 floor(j/2) / width),
 * even and odd j (Vaswani et al. 2017). */
st_param_fill st_fill_sinusoid;
/* (m, n): orthonormal rows (columns, if m > n) times sqrt(m). */
st_param_fill st_fill_orthogonal;
/* "NAME.weight" = 1 (0 if n->less) and, unless n->rms, "NAME.bias" = 0, (width). */
void st_add_norm(st_builder *b, st_role role, const char *name, int64_t width, st_norm *n);
/* Announces the matrix `name` and sets x->l.spec to what the configuration wants there. */
void st_add_matrix(st_builder *b, st_role role, const char *name, int64_t in, int64_t out,
                   st_matrix *x);
/* Refuses an announced matrix whose rows cannot be looked up. */
void st_add_rows(st_builder *b, const st_matrix *x);
/* The parameters of an announced matrix, W's entries of standard deviation `std`; `flags` of a
 * dense one (ST_P_FLIP); a bias of zeros if `bias`. */
void st_add_weights(st_builder *b, st_matrix *x, float std, unsigned flags, bool bias);

void st_matrix_forward(st_stream *q, const st_matrix *w, st_tensor x, st_tensor y, st_tensor kept,
                       st_arena *tmp);
void st_matrix_backward(st_stream *q, const st_matrix *w, st_tensor x, st_tensor kept, st_tensor dy,
                        st_tensor dx, st_arena *tmp);

/* What its map keeps of `rows` rows for the backward, taken from tmp; absent unless training. */
st_tensor st_matrix_kept(const st_matrix *w, bool train, st_dtype t, int64_t rows, st_arena *tmp);
/* st_matrix_backward, dx added to. */
void st_matrix_backward_add(st_stream *q, const st_matrix *w, st_tensor x, st_tensor kept,
                            st_tensor dy, st_tensor dx, st_arena *tmp);

/* y (absent: taken from tmp, returned) = norm of x; mean and rstd taken from tmp, no mean if rms.
 */
st_tensor st_norm_forward(st_stream *q, const st_norm *n, float eps, st_tensor x, st_tensor y,
                          st_tensor *mean, st_tensor *rstd, st_arena *tmp);
/* dx = (`add`: +=) the gradient of x through norm(x), from dy; dx may be dy. */
void st_norm_backward(st_stream *q, const st_norm *n, st_tensor x, st_tensor mean, st_tensor rstd,
                      st_tensor dy, st_tensor dx, bool add, st_arena *tmp);

/* ---- a transformer block (block.c) ----------------------------------------------------------- */

/* Pre-norm block: x2 = x + drop(attn_out(attend(attn_in(ln_1(x)))));
 *                 y = x2 + drop(mlp_out(gelu(mlp_in(ln_2(x2))))). */
typedef struct {
    int64_t width, inner, heads, layer;
    float eps, scale; /* of layer norm; of attention scores */
    float drop_attn, drop_resid;
    st_gelu_kind gelu;
    int causal;
    st_norm ln_1, ln_2;
    st_matrix attn_in, attn_out, mlp_in, mlp_out;
} st_block;

/* What one call has in common for all blocks. Rows are (batch, len). */
typedef struct {
    int64_t batch, len;
    bool train;      /* keep what backward reads, drop out */
    uint64_t seed;   /* of dropout */
    const st_kv *kv; /* inference: cache to be read and extended at kv->used, or absent */
    const st_attention *attention; /* inference: how to attend; NULL: exactly */
} st_pass;

/* Of what a block's forward leaves, what lm.c reads: the acts of every kind of block begin with it.
 */
typedef struct {
    st_tensor x;         /* set by forward: what the block has read */
    st_tensor mlp;       /* set by the caller or absent: gets what the MLP adds (before dropout) */
    st_match_args match; /* set by the caller, rows 0: none: a distance of `mlp` that counts too */
} st_seen;

/* What forward leaves for backward; views into the arena. */
typedef struct {
    st_seen seen;
    st_tensor ln_1, qkv, att, x2, ln_2;            /* (rows, ...) */
    st_tensor mean_1, rstd_1, mean_2, rstd_2, lse; /* F32 */
    st_tensor attn_in, attn_out;                   /* kept by the maps */
    st_mlp_acts inner;
} st_block_acts;

/* ---- attention of a pass, over the cache where there is one (kv.c) ----------------------------
 */

/* Does the device know the position of single tokens? */
static inline bool st_pass_next(const st_pass *p)
{
    return p->kv && p->kv->at.data && p->len == 1;
}
/* Attends as `at` says, its lse, dropout and o among it. With a cache the new keys and values are
 * appended to that of `layer` first, and all of it is attended to; where the cache's dtype is
 * another than theirs, queries and outputs go through that. */
void st_pass_attend(st_stream *q, const st_pass *p, int64_t layer, st_attend_fwd_args *at,
                    st_arena *tmp);
/* t from element `offset` on: where a slice of a packed tensor starts. */
static inline st_tensor st_from(st_tensor t, int64_t offset)
{
    return st_slice(t, offset, st_numel(t) - offset);
}

/* dy (may be d) and the gradient of a distance of the same branch; d itself goes on along the
 * residual. */
st_tensor st_match_back(st_stream *q, const st_match_args *match, st_tensor d, st_tensor dy,
                        st_arena *tmp);

/* Numbers for dropout that no other layer, place and seed gets. */
typedef enum { ST_SITE_EMBED, ST_SITE_ATTN, ST_SITE_ATTN_OUT, ST_SITE_MLP_OUT } st_drop_site;
uint64_t st_drop_seed(uint64_t seed, int64_t layer, st_drop_site site);

/* y may be x's memory unless training. Takes from `tmp` and does not rewind: the caller does, after
 * backward when training. */
void st_block_forward(st_stream *q, const st_block *b, const st_pass *p, st_tensor x, st_tensor y,
                      st_block_acts *k, st_arena *tmp);
/* The same for the first token of each batch item alone, which sees all of them: y (batch, width).
 * Inference, no cache, not causal. */
void st_block_first(st_stream *q, const st_block *b, const st_pass *p, st_tensor x, st_tensor y,
                    st_arena *tmp);
/* d (rows, width): gradient of y on entry, of x on return. */
void st_block_backward(st_stream *q, const st_block *b, const st_pass *p, const st_block_acts *k,
                       st_tensor d, st_arena *tmp);

/* ---- a language model (lm.c) ----------------------------------------------------------------- */

/* What a family of language models brings: its embedding and its blocks. lm.c brings the loop over
 * the blocks, the head in chunks of rows, the loss and the teacher. `net` is st_model.net; x, y and
 * d are (rows, width). */
typedef struct st_lm_family {
    size_t acts; /* bytes that a block's forward leaves for its backward: a struct that begins with
                  * st_seen */
    /* x = what the first block reads for p->batch * p->len ids (dropped out if p->train). */
    void (*embed)(const void *net, st_stream *q, const st_pass *p, st_tensor ids, st_tensor x,
                  st_arena *tmp);
    /* Gradients of the embedding from d, that of its x. */
    void (*embed_back)(const void *net, st_stream *q, const st_pass *p, st_tensor ids, st_tensor d,
                       st_arena *tmp);
    /* As st_block_forward and st_block_backward, of block i; acts is zero but for seen->mlp, and
     * for the backward seen->match. */
    void (*block)(const void *net, st_stream *q, int64_t i, const st_pass *p, st_tensor x,
                  st_tensor y, void *acts, st_arena *tmp);
    void (*block_back)(const void *net, st_stream *q, int64_t i, const st_pass *p, const void *acts,
                       st_tensor d, st_arena *tmp);
} st_lm_family;

/* What all language models have. A family's network holds one. */
typedef struct st_lm {
    st_lm_shape shape;
    st_matrix table; /* the token embedding */
    st_norm norm;    /* before the head */
    const char *norm_name;
    float eps;      /* of the norm */
    bool in_place;  /* a step of decoding finds its position on the device (st_kv.at) */
    st_matrix head; /* dense and without numbers where it is the table */
    st_matrix top;  /* what logits are made by: head, or the table under the head's name */
    char *acts;     /* by layer, during one call */
} st_lm;

/* Makes `lm` that of m; shape and eps are set. */
st_status st_lm_open(st_model *m, st_lm *lm, st_err *e);
void st_lm_close(st_lm *lm);
/* Adds the embedding; the norm and the head, which is the table where the shape says tied and no
 * map is asked for the head. Matrices start with standard deviation std. */
void st_lm_add_table(st_builder *b, st_lm *lm, const char *name, float std, unsigned flags);
void st_lm_add_head(st_builder *b, st_lm *lm, const char *norm, const char *name, float std);
/* After st_model_bind: the table's views are the head's where they are tied. */
void st_lm_bound(st_lm *lm);
void st_lm_forward(st_model *m, st_stream *q, const st_lm_args *a, st_arena *tmp);
void st_lm_grad(st_model *m, st_stream *q, const st_lm_args *a, st_arena *tmp);

/* ---- GPT-2's config.json (gpt2_config.c) ----------------------------------------------------- */

typedef struct {
    int64_t vocab, context, width, layers, heads, inner, bos, eos;
    st_gelu_kind gelu;
    double eps, init, drop_resid, drop_embed, drop_attn;
    bool scale, scale_by_layer; /* scores by 1/sqrt(head width); by 1/(layer + 1) */
    bool tied, head_bias;
} st_gpt2_config;

st_status st_gpt2_config_read(st_gpt2_config *c, const json_t *config, st_err *e);
json_t *st_gpt2_config_json(const st_gpt2_config *c); /* NULL when out of memory */

/* ---- Llama's and its like (llama_config.c, rotary.c, rotary_config.c)
 * ----------------------------------------- */

typedef enum {
    ST_ROPE_DEFAULT,
    ST_ROPE_LINEAR,
    ST_ROPE_DYNAMIC,
    ST_ROPE_YARN,
    ST_ROPE_LLAMA3
} st_rope_kind;

/* Rotary positions as rope_scaling in config.json says it, defaults filled in. */
typedef struct {
    st_rope_kind kind;
    double theta, factor, low, high, beta_fast, beta_slow;
    double attention_factor, mscale, mscale_all; /* 0: not given */
    bool truncate;
    int64_t original; /* the context that the model was trained at */
} st_rope;

/* The dim / 2 frequencies for sequences of `len` tokens. */
void st_rope_freqs(const st_rope *r, int64_t dim, int64_t len, float *freq);
/* What cosines and sines are multiplied by. */
float st_rope_scale(const st_rope *r);

enum { ST_LLAMA_LAYERS = 1024, ST_LLAMA_CONTEXT = 1 << 26 };

typedef struct {
    const char *type; /* "llama", "mistral", "qwen2", "qwen3", "gemma3_text" */
    int64_t vocab, context, width, layers, heads, kv_heads, head_dim, inner, bos, eos;
    int64_t window;               /* 0: none */
    bool slides[ST_LLAMA_LAYERS]; /* by layer: attention is within the window */
    st_rope rope, local; /* local: of the blocks with a window, where they have their own */
    st_glu_kind act;
    double eps, init, drop_attn, score; /* scores are divided by sqrt(score) */
    bool tied, qkv_bias, out_bias, mlp_bias, qk_norm;
    bool gemma; /* gains stored less 1, norms after attention and MLP, embeddings by sqrt(width),
                 * `local` */
} st_llama_config;

/* c->rope and c->local as config.json has them (c->gemma and c->context are set; dynamic scaling
 * lengthens the latter); and a rope_scaling that says the same (rotary_config.c). */
st_status st_rope_read(st_llama_config *c, const json_t *config, st_err *e);
json_t *st_rope_json(const st_rope *r);

st_status st_llama_config_read(st_llama_config *c, const json_t *config, st_err *e);
json_t *st_llama_config_json(const st_llama_config *c); /* NULL when out of memory */

/* ---- T2T-ViT's config.json (t2tvit_config.c) ------------------------------------------------- */

typedef struct {
    int64_t size, channels, classes, width, layers, heads, inner; /* pixels; blocks' MLPs' width */
    int64_t token_dim, features; /* of the token modules: width; random features (performer) */
    bool performer, qkv_bias;
    double qk_scale; /* of the blocks' scores; 0: 1 / sqrt(head width) */
    double eps, init;
} st_t2tvit_config;

st_status st_t2tvit_config_read(st_t2tvit_config *c, const json_t *config, st_err *e);
json_t *st_t2tvit_config_json(const st_t2tvit_config *c); /* NULL when out of memory */

#endif
