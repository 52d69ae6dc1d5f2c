/* model: networks. A model is a list of parameters plus a forward and a backward that read from top
 * to bottom; it knows no file, no rank, no device and no map type.
 *
 * Weights, gradients and optimiser state are flat blocks with one layout: parameter i starts at the
 * same element of each. Long: one door for every kind of model. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_MODEL_H
#define ST_MODEL_H

#include "map/map.h"

typedef struct st_model st_model;

enum {
    ST_P_DECAY = 1, /* weight decay applies */
    ST_P_EMBED = 2, /* token or position embedding */
    ST_P_NORM = 4,  /* layer norm gain or bias */
    ST_P_BIAS = 8,
    ST_P_FACTOR = 16, /* factor of a structured (non-dense) matrix */
    ST_P_FLIP = 32,   /* Hugging Face stores this dense matrix as (in, out) (Conv1D) */
    ST_P_BLOCKS = 64, /* may be of a block format (st_model_quantize) */
    ST_P_WHOLE = 128, /* and packed */
    ST_P_LESS = 256   /* a norm's gain, less 1 (Gemma's) */
};

/* What a matrix or another tensor is for, whatever its model calls it. Other rooms ask for these;
 * names are for people and files. */
typedef enum {
    ST_ROLE_OTHER,
    ST_ROLE_EMBEDDING,      /* rows by token */
    ST_ROLE_POSITION,       /* rows by position */
    ST_ROLE_PATCH,          /* of what makes tokens out of pixels */
    ST_ROLE_NORM_ATTENTION, /* gain and bias of the norm before a block's attention */
    ST_ROLE_NORM_MLP,       /* before its MLP */
    ST_ROLE_NORM_HEAD,      /* before the head */
    ST_ROLE_NORM_OUT,       /* after attention or an MLP, before what it gave is added */
    ST_ROLE_QKV,            /* queries, keys and values, in one matrix or several */
    ST_ROLE_ATTENTION_OUT,
    ST_ROLE_MLP_IN,
    ST_ROLE_MLP_GATE, /* what the units' outputs are multiplied by, where a model has that */
    ST_ROLE_MLP_OUT,
    ST_ROLE_HEAD
} st_role;

/* A side of W, y = W x. */
typedef enum { ST_SIDE_NONE, ST_SIDE_IN, ST_SIDE_OUT } st_side;
/* Which side of such a matrix is the residual stream, and which the hidden units of an MLP. */
st_side st_role_residual(st_role r);
st_side st_role_hidden(st_role r);

/* A matrix that a map may replace. */
typedef struct {
    const char *name; /* "h.0.attn.c_attn" */
    st_role role;
    int64_t layer; /* block; -1: none */
    const st_spec *spec;
} st_slot;

/* Fresh values of a parameter, host F32, from stream (seed, hash of its name). */
typedef struct st_param st_param;
typedef void st_param_fill(const st_param *p, uint64_t seed, float *out);

/* One stored tensor. Names of GPT-2's are Hugging Face's without "transformer.": "wte.weight",
 * "h.0.attn.c_attn.weight", "h.0.attn.c_attn.bias"; of T2T-ViT's the authors'. A structured matrix
 * has one per factor: "h.0.mlp.c_fc.u". */
struct st_param {
    const char *name;
    const char *matrix;  /* "h.0.mlp.c_fc" for a matrix's factors and bias, else NULL */
    const st_spec *spec; /* of that matrix, else NULL */
    int64_t offset;      /* element in the flat blocks */
    st_tensor w;         /* bound view (data NULL before binding); dense (out, in) */
    float init_mean, init_std;
    st_param_fill *fill; /* NULL: normal numbers with these two */
    st_dtype format;     /* of a block format (tensor.h), or ST_F32: of floats */
    st_role role;        /* that of its matrix, or its own */
    int64_t layer;       /* block; -1: none */
    float matrix_std;    /* of the entries of the whole matrix, where this is a factor or a bias */
    unsigned flags;
};

typedef void st_param_fn(void *ctx, const st_param *p);

/* Builds a model from a config.json object: keys of GPT-2, Llama, Mistral, Qwen2, Qwen3 or Gemma 3
 * (gemma3_text) as Hugging Face writes them, or those of "model_type": "t2t_vit" (doc/FORMATS;
 * unknown ones are errors there), plus our key "strut":
 * {"format": 1, "maps": {GLOB: SPEC, ...}, "quantize": {GLOB: FORMAT, ...}} (fnmatch globs on
 * matrix names, later ones win; one that
 * matches no matrix is ST_EARG with the nearest name; wte is matched by its exact name only, and so
 * is a tied lm_head, which is then untied). Unknown "strut" keys are errors, unknown Hugging Face
 * keys are not. `config` is not kept. */
st_status st_model_open(st_model **out, const json_t *config, st_err *e);
void st_model_close(st_model *m);
/* A new config.json object that opens the same model: every matrix named with its canonical spec
 * (dense ones left out), and those of a block format with that. */
json_t *st_model_config(const st_model *m);

void st_model_params(const st_model *m, st_param_fn *visit, void *ctx);
/* Of a flat block, padding between tensors included. */
int64_t st_model_elements(const st_model *m);
/* Binds flat blocks of st_model_elements: weights (F32 or BF16), gradients (F32, may be absent).
 * Block formats are not heeded: a model that is planned and run so has none. */
void st_model_bind(st_model *m, st_tensor weights, st_tensor grads);

/* ---- weights in blocks of 8 and 4 bits, for inference (quantize.c) --------------------------- */

/* Formats of parameters from texts "FORMAT" or "FORMAT:GLOB", later ones win: q8, q4 (Q8_0, Q4_0),
 * q4_1, or none: floats. A glob means names of matrices, the embedding's too; without one: all. Of
 * a matrix its parameters follow whose last side forward sums over, in whole blocks. *left (may be
 * NULL): names of matrices that were meant and stay floats. ST_EARG: no such format; nothing
 * matches, or nothing of that can follow. */
st_status st_model_quantize(st_model *m, const char *const *texts, int n, json_t **left, st_err *e);
/* Is any parameter so? Then st_model_plan is that of st_model_bind_mixed, without gradients. */
bool st_model_quantized(const st_model *m);
/* Bytes of all parameters, floats of dtype t and blocks, as st_model_bind_mixed has them from
 * `base` (128-byte aligned) on, those that may be packed so if `pack`; st_param.w then says where
 * each is, and its dtype. */
size_t st_model_mixed(const st_model *m, st_dtype t);
void st_model_bind_mixed(st_model *m, st_dtype t, bool pack, void *base);

/* Leaves out the gradients of parameters that are not trained, and the products that would fill
 * them; those of a matrix's factors only if it trains none of them. Until the next binding. */
typedef bool st_param_test(void *ctx, const st_param *p);
void st_model_freeze(st_model *m, st_param_test *frozen, void *ctx);

typedef void st_matrix_fn(void *ctx, const char *name, const st_spec *spec);
/* Every matrix that a map may replace, by name ("wte", "h.0.attn.c_attn" ..., "lm_head" last,
 * reported even when tied, then as dense), with its spec. */
void st_model_matrices(const st_model *m, st_matrix_fn *visit, void *ctx);
/* The same as a list of *n, the model's. */
const st_slot *st_model_slots(const st_model *m, int64_t *n);
/* The matrix of that name; the first of that role in a block (layer -1: outside); NULL: none. */
const st_slot *st_model_slot(const st_model *m, const char *name);
const st_slot *st_model_role(const st_model *m, st_role role, int64_t layer);
/* Globs of the matrices in the MLPs and the attention of its blocks ("h.*.mlp.*"); the same by a
 * config.json's model_type alone (one that is unknown: GPT-2's). */
typedef struct {
    const char *mlp, *attention;
} st_globs;
st_globs st_model_globs(const st_model *m);
st_globs st_config_globs(const json_t *config);
/* What Hugging Face's files have before the names of all but the head: "transformer.". */
const char *st_model_prefix(const st_model *m);
/* Does that matrix hold the rows of tokens: the embedding, and the head where it is tied to it? */
bool st_model_table(const st_model *m, const char *name);

typedef struct {
    int64_t parameters;           /* tied tensors once */
    int64_t embedding_parameters; /* wte + wpe (the tied head is wte); positions, class token */
} st_model_count;
st_model_count st_model_counts(const st_model *m);

/* Facts a job needs about a language model. */
typedef struct {
    int64_t vocab, context, width, layers, heads, inner;
    int64_t kv_heads, head_dim; /* heads of keys and values; width of a head */
    int64_t bos, eos;           /* ids that begin and end a text, -1: none */
    bool tied, head_bias; /* the head is the embedding; it has a bias, which a tied one has not */
    float drop_embed, drop_attn, drop_resid;
    st_gelu_kind gelu;
} st_lm_shape;
/* Zeros for a model that is none (st_model_is_vision). */
st_lm_shape st_model_lm(const st_model *m);

/* ---- ways to attend (attention.c): exact, and in less than O(N^2) ---------------------------- */

struct st_attention_type;

/* A way to attend with its knobs, "local:window=98". A value: copied freely. Zero is exact. */
typedef struct {
    const struct st_attention_type *type; /* NULL: full */
    int64_t knob[ST_KNOBS];
    st_tensor projection; /* absent: drawn from the knob "seed"; else F32 on the device, the random
                           * directions as the type's file says */
} st_attention;

typedef struct {
    int64_t head_dim, q_len, kv_len;
    int causal;
} st_attention_shape;

typedef struct st_attention_type {
    const char *name, *summary, *equation, *source; /* as in st_map_type */
    st_knob knob[ST_KNOBS];
    const char *acausal; /* why it has no causal form; NULL: it has one */
    /* Fills knobs left at a "choose for me" preset by the shape and refuses illegal ones, naming
     * the legal values. Idempotent. NULL: nothing to check. */
    st_status (*check)(st_attention *m, const st_attention_shape *s, st_err *e);
    /* As st_attention_forward, m checked. */
    void (*forward)(st_stream *q, const st_attention *m, const st_attend_fwd_args *a,
                    st_arena *tmp);
    /* The projection of layer `layer` in the shape, drawn into `from`; m checked. forward then has
     * it, given or drawn. NULL: there is none. */
    st_tensor (*draw)(st_stream *q, const st_attention *m, const st_attention_shape *s,
                      uint64_t layer, st_arena *from);
} st_attention_type;

extern const st_attention_type *const st_attention_types[]; /* NULL-terminated; full first */

/* Parses "name:knob=value,..."; nothing is checked against a shape. ST_EARG with the nearest legal
 * name. */
st_status st_attention_parse(st_attention *out, const char *text, st_err *e);
/* Fills what is left to the shape and refuses what does not fit it: a set-up that passes this can
 * attend in that shape. */
st_status st_attention_check(st_attention *m, const st_attention_shape *s, st_err *e);
/* st_attention_check, and what each call of layer `layer` in that shape would draw is drawn now,
 * into `from`. From then on m is of that shape, layer and seed. */
st_status st_attention_keep(st_stream *q, st_attention *m, const st_attention_shape *s,
                            uint64_t layer, st_arena *from, st_err *e);
/* Text that parses to the same; knobs at "choose for me" are left out. */
void st_attention_print(const st_attention *m, char text[ST_SPEC_TEXT]);
/* Its knob "seed"; NULL: it draws nothing. */
int64_t *st_attention_seed(st_attention *m);
/* o of `a` (its layouts, scale, causal, kv_len; no dropout, no lse, no window of its own) by `m`,
 * which fits the shape; knobs left to the shape are filled for this call. a->seed numbers
 * independent draws of random directions: callers give the layer. Scratch from tmp (rewound), O(N)
 * in the lengths. */
void st_attention_forward(st_stream *q, const st_attention *m, const st_attend_fwd_args *a,
                          st_arena *tmp);

/* Parses `text` (NULL: full) and checks it for the language model m at its full context. */
st_status st_model_attention(const st_model *m, const char *text, st_attention *out, st_err *e);

/* Keys and values of the positions so far, for decoding. */
typedef struct {
    int64_t batch, capacity, used;
    st_tensor k, v; /* (layers, batch, capacity, kv_heads * head_dim) */
    st_tensor at; /* single tokens: `used` as the device knows it, I32 (1), or absent (decode.c) */
    /* Single tokens: how many each item has (host, batch), `used` being the most; NULL: all have
     * `used`. Items then attend one by one. */
    const int64_t *each;
} st_kv;
/* Zeroed but for what it takes of `a`, keys and values of dtype t (that of the weights, or BF16).
 */
void st_kv_take(st_kv *kv, const st_model *m, st_dtype t, int64_t batch, int64_t capacity,
                st_arena *a);
/* The first `len` positions of the only item of `from` become those of item i of `to`. */
void st_kv_move(st_stream *q, const st_kv *from, const st_kv *to, int64_t i, int64_t len);

/* What a model in training is taught by another one, beside its targets. Per token
 *   kl      KL(p_t || p) of the next-token distributions at temperature T (Hinton et al. 2015)
 *   hidden  sum over blocks of w |h - h_t|^2, h their outputs or (mlp) what their MLPs add
 *   embed   w |x - x_t|^2, x what enters the first block
 * with w = 1/|h_t|^2 (relative) or 1/width; the objective has kl_scale T^2 times the first and the
 * other two times their scales, summed over tokens. A part whose scale is 0 costs nothing. */
typedef struct {
    st_model *teacher; /* bound; the same vocabulary, at least `len` positions; for hidden and embed
                        * the same width, for hidden the same number of blocks */
    float kl_scale, temperature, hidden_scale, embed_scale;
    int relative, mlp;
    /* Each block by itself (block reconstruction): it reads what the teacher's block reads, and
     * only its output's distance counts; embeddings, ln_f and head get no gradient, loss is set to
     * 0. grad_scale, kl_scale and embed_scale are 0. */
    int by_block;
    st_tensor kl, hidden, embed; /* (batch*len) F32, set; each absent where its scale is 0 */
} st_teach;

typedef struct {
    int64_t batch, len; /* ids (batch, len) I32 on the device, all < vocab; positions from kv->used
                           (or 0); their end must be within the context */
    st_tensor ids;
    st_tensor targets;   /* (batch, len) I32, < 0 ignored; absent: no loss */
    st_tensor loss;      /* (batch*len) F32, each token's NLL (nats) */
    st_tensor logits;    /* (batch*len, vocab) or, if last_only, (batch, vocab), F32; or absent */
    int last_only;       /* then no targets */
    const int64_t *pick; /* absent, or host: `picks` row numbers below batch*len, not falling; then
                            logits, targets and loss are of these rows only. Not for grad, and only
                            where the head runs. */
    int64_t picks;
    st_kv *kv; /* absent, or the cache that is read and grown by len */
    /* forward only: NULL (full), or a way to attend that passed st_model_attention. Single tokens
     * (decoding) attend exactly, over what the cache has. */
    const st_attention *attention;
    /* forward only: a part of the network. x (batch*len, width) stays in `hidden`; begin at block
     * `first` with the x there (0: with the embeddings); end after `blocks` of them, without a head
     * (0: go to the end). No kv. */
    st_tensor hidden;
    int64_t first, blocks;
    float grad_scale;      /* grad only: gradient of the objective by each token's NLL */
    uint64_t seed;         /* grad only: dropout */
    const st_teach *teach; /* grad only: absent, or the teacher */
} st_lm_args;

/* Inference: fills loss and/or logits. No dropout. Scratch from `tmp` (rewound). */
void st_model_forward(st_model *m, st_stream *q, const st_lm_args *a, st_arena *tmp);
/* One training micro-step: fills loss and adds d(grad_scale * sum of losses) to the gradients.
 * Dropout as configured. */
void st_model_grad(st_model *m, st_stream *q, const st_lm_args *a, st_arena *tmp);

/* Decoding: steps of one token an item, a->batch of at most ST_DECODE_BATCH, over a->kv. `a` as for
 * a forward of len 1, its ids aside; takes a few numbers from `mem`, which like weights, cache,
 * logits and every step's `tmp` stays where it is until the end (of a zeroed one: nothing). */
enum { ST_DECODE_BATCH = 64 };
typedef struct {
    st_model *m;
    st_stream *q;
    st_lm_args a;
    st_tensor next; /* I32: the ids, then the position */
    int64_t taken;  /* steps */
    st_recording *recording;
} st_decode;
void st_decode_start(st_decode *d, st_model *m, st_stream *q, const st_lm_args *a, st_arena *mem);
/* The forward of `ids` (host, batch) at kv->used, which it moves on. */
void st_decode_step(st_decode *d, const int32_t *ids, st_arena *tmp);
void st_decode_end(st_decode *d);

/* From now on `fn` is called before each matrix is multiplied, with its name and input (rows, in),
 * in forward and grad; it may queue operations. NULL: no more. Dry runs do not call it. */
typedef void st_tap_fn(void *ctx, st_stream *q, const char *matrix, st_tensor x);
void st_model_tap(st_model *m, st_tap_fn *fn, void *ctx);

/* Scratch bytes and cost of one call, by dry run of the same code; `grad` chooses which. Absent
 * ids, cache memory and, for grad, targets and loss are taken as present; whether `a` has logits
 * (and, for forward, targets) counts: an address that is not NULL will do. Refuses batches, lengths
 * and sizes that do not fit the context or any machine. Not while another thread uses `m`. */
st_status st_model_plan(st_model *m, const st_stream *q, st_dtype t, const st_lm_args *a, bool grad,
                        size_t *bytes, st_cost *cost, st_err *e);

/* ---- the MLP of a block (mlp.c) -------------------------------------------------------------- */

typedef struct {
    st_tap_fn *fn; /* NULL: none */
    void *ctx;
} st_tap;

/* Weight matrix with its name, which messages and profiles show. */
typedef struct {
    st_linear l;
    const char *name;  /* the model's, or a constant */
    const st_tap *tap; /* the model's, or NULL */
} st_matrix;

/* y = out(gelu(in(x))), or out(act(gate(x)) in(x)) where there is a gate. */
typedef struct {
    const st_matrix *in, *out; /* (inner, width), (width, inner) */
    st_gelu_kind gelu;
    const st_matrix *gate; /* (inner, width), or NULL */
    st_glu_kind act;
} st_mlp;

/* What forward leaves for backward; views into the arena, and x (which may be absent). */
typedef struct {
    st_tensor x, fc, act; /* (rows, width), (rows, inner) twice; act absent where `out` begins with
                           * a fold that the backend makes with the GELU */
    st_tensor gate;       /* (rows, inner) */
    st_tensor in, out, by_gate; /* kept by the maps */
} st_mlp_acts;

/* x, y (rows, width); y may be x's memory unless training. z: room for what `in` keeps (absent:
 * from tmp); where x is absent it is set already, as a norm leaves it (st_linear_norm). Takes from
 * `tmp` and does not rewind: the caller does, after backward if `train`. */
void st_mlp_forward(st_stream *q, const st_mlp *m, bool train, st_tensor x, st_tensor z,
                    st_tensor y, st_mlp_acts *k, st_arena *tmp);
/* dx set; gradients of the matrices and biases added to. Where forward had no x, the norm's
 * backward is made instead (st_linear_norm_backward). */
void st_mlp_backward(st_stream *q, const st_mlp *m, const st_mlp_acts *k, st_tensor dy,
                     st_tensor dx, const st_norm_bwd_args *norm, st_arena *tmp);

/* ---- classifiers of images (vision.c) -------------------------------------------------------- */

/* Such a model has no tokens of text: st_model_lm says zeros, the functions on st_lm_args may not
 * be called, but for st_model_plan, which refuses it; of a language model the same holds here. */
bool st_model_is_vision(const st_model *m);

typedef struct {
    int64_t size, channels, classes; /* pixels to a side; colours; classes */
    int64_t width, layers, heads, inner;
    int64_t token_dim; /* width of the token modules' queries, keys and values: one head */
    int64_t tokens[3]; /* in the first and second token module, and in the blocks */
    bool performer;    /* random features in the token modules, else softmax */
} st_vision_shape;
st_vision_shape st_model_vision_shape(const st_model *m);

typedef struct {
    int64_t batch;
    st_tensor pixels; /* (batch, channels, size, size), normalised, F32 or the weights' dtype */
    st_tensor logits; /* (batch, classes) F32, set */
    /* How the first and the second token module attend, where they do by softmax; zeros: exactly.
     * Blocks always do. */
    st_attention attention[2];
} st_vision_args;

/* st_attention_keep for the two token modules, into a device arena opened here (left closed where
 * nothing is kept). Ways that do not fit are refused as by st_model_vision_plan. */
st_status st_model_vision_keep(const st_model *m, st_stream *q, st_attention way[2], st_arena *mem,
                               st_err *e);
/* Inference. Scratch from `tmp` (rewound). */
void st_model_vision_forward(st_model *m, st_stream *q, const st_vision_args *a, st_arena *tmp);
/* Scratch bytes and cost of one call, by dry run of the same code, as st_model_plan; absent pixels
 * and logits are taken as present. The bytes never fall as the batch grows. Refuses ways to attend
 * that do not fit; a call that it allowed can be made. */
st_status st_model_vision_plan(st_model *m, const st_stream *q, st_dtype t, const st_vision_args *a,
                               size_t *bytes, st_cost *cost, st_err *e);

/* ---- symmetries (symmetry.c): other weights, the same function ------------------------------- */

/* Of language models. All of them change `flat` (host, F32, the model's layout) in place and need
 * dense matrices where they reach: ST_EARG naming one that is not, and nothing is changed. */

/* Gain and bias of the norms of blocks go into the matrices after them: b += W beta, W = W
 * diag(gamma), gamma = 1, beta = 0. The norm before the head stays: what follows it may be the
 * embedding and has no bias. */
st_status st_model_fold_norms(const st_model *m, float *flat, st_err *e);
/* Hidden unit p of the MLP of `layer` becomes what unit from[p] was (inner of them). */
st_status st_model_permute_hidden(const st_model *m, int64_t layer, const int64_t *from,
                                  float *flat, st_err *e);
/* Residual channel p becomes what channel from[p] was (width of them), in all tensors. */
st_status st_model_permute_residual(const st_model *m, const int64_t *from, float *flat, st_err *e);

#endif
