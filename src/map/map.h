/* map: structured matrices y = W x (+ bias). A type is one file that fills one descriptor and one
 * row of table.c; spec text, storage, counting, initialisation, tests and benchmarks follow from
 * it.
 *
 * W is (out, in). Activations are row-major (rows, in) and (rows, out), one row per token. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_MAP_H
#define ST_MAP_H

#include "backend/backend.h"

enum { ST_KNOBS = 16, ST_PARAMS = 8, ST_PARTS = 2, ST_SPEC_TEXT = 512 };

struct st_map_type;

/* One structured matrix: type, shape and knobs. A value: copied freely. `part` is used by the type
 * "sum" only ("lowrank:rank=8+blockdiag:blocks=4", with "+gate" for the per-token gate, "+mean" for
 * the mean of the two). */
typedef struct st_spec {
    const struct st_map_type *type;
    int64_t in, out;
    int64_t knob[ST_KNOBS];
    struct {
        const struct st_map_type *type;
        int64_t knob[ST_KNOBS];
    } part[ST_PARTS];
} st_spec;

enum {
    ST_MAP_DECAY = 1,  /* weight decay applies to this parameter */
    ST_MAP_BLOCKS = 2, /* may be of a block format where it is as below: forward reads its rows */
    ST_MAP_WHOLE = 4   /* and packed: forward reads whole matrices of its last two sides */
};

typedef struct {
    char name[24]; /* "u", "l1"; stored as MATRIX.name */
    int ndim;
    int64_t dim[4];
    float init_mean, init_std; /* N(mean, std^2) */
    unsigned flags;
} st_param_shape;

typedef struct {
    st_tensor p[ST_PARAMS];
} st_theta;

/* One call of a map on n tokens: everything a type is given. x, bias, y, kept, dy, dx and theta are
 * of one dtype; of theta, parameters that st_param_blocks allows may be of a block format in
 * forward, and in rows where the type is dense. Zero is the default of every member: absent tensors
 * are not given or not wanted, so a member can join without a word in the types that have no use
 * for it. */
typedef struct {
    st_stream *q;
    const st_spec *spec;
    const st_theta *theta;
    st_tensor x;    /* (n, in) */
    st_tensor bias; /* (out) */
    st_tensor y;    /* (n, out), set by forward */
    st_tensor kept; /* (n, kept), set by forward; where backward has none it is computed again */
    bool ready;     /* forward: kept is set already, and x absent (types with a fold) */
    st_arena *tmp;  /* scratch; the caller rewinds */
    /* Of backward alone; x and kept as in the forward call. */
    st_tensor dy;           /* (n, out) */
    st_tensor dx;           /* (n, in), set */
    st_tensor dkept;        /* (n, kept), set instead of dx (types with a fold) */
    const st_theta *dtheta; /* F32, added to; NULL: none wanted */
} st_map_call;

/* Ridge of a weighted projection: this much of C's mean diagonal is added to its diagonal. */
#define ST_RIDGE 1e-2

/* Who carries the size of a product of two factors (kron): the large one, the small one's entries
 * having a root mean square of 1; or both alike, sqrt(sigma) each. W is the same. */
typedef enum { ST_GAUGE_UNIT, ST_GAUGE_BALANCED } st_gauge;

/* How theta is found. Zero: exactly, in the plain Frobenius norm. */
typedef struct {
    bool randomized; /* randomised SVD instead of an exact one */
    uint64_t seed;
    /* C = E[x^T x] of the matrix's input (in, in) host F32, symmetric: |(W - W') C^1/2| is made
     * small instead of |W - W'|, which is the error of the outputs. NULL: C = I. */
    const float *in_cov;
    /* X = E[h^T x] (in, in) host F32 of the row h that W itself is fed where W' is fed x: then
     * E|h W^T - x W'^T|^2 is made small. Heeded by st_map_start. NULL: h = x, X = C. */
    const float *in_cross;
    /* (out) numbers above 0 that the rows of W - W' are multiplied by in that norm, which types
     * that have row lookup (an embedding's frequent tokens) heed. NULL: all 1. */
    const float *out_weight;
    const void *prepared; /* inside map: in_cov, ready for use; others leave it NULL */
    bool part;            /* inside map: of a sum, which comes back many times; others: false */
    st_gauge gauge;
    const double *scalars; /* values of the learned factors of a sum's terms; NULL: 1 each */
    int64_t nscalars;
    float std;        /* of the entries of a random W */
    const char *name; /* the matrix's, NULL: none; "NAME.PARAMETER" is a random stream (fresh.c) */
} st_project_opts;

/* Whose numbers a new matrix starts with. DENSE: those that give W the deviation of a dense matrix
 * there. FLY: the own ones of HazyResearch fly's layers (of SS1's released package, where the type
 * comes from that). FORK: those of the SS1 authors' copy of fly, whose GPT-2 re-initialises what
 * its layers are made of. */
typedef enum { ST_FRESH_DENSE, ST_FRESH_FLY, ST_FRESH_FORK } st_fresh_law;

typedef struct {
    st_fresh_law law;
    float std;   /* of a dense matrix's entries there */
    float range; /* the model's initializer_range, without any scaling by depth */
    /* Deviation that the model gives afterwards to every parameter called a weight (GPT-2 to those
     * of attn.c_proj); 0: none. */
    float over;
    uint64_t seed;
    const char *name; /* the matrix's: "NAME.PARAMETER" is a random stream */
} st_fresh_opts;

/* A knob that gives the weights their meaning (a hash constant) is stored even at its preset. */
typedef enum { ST_KNOB_SHOWN, ST_KNOB_HIDDEN, ST_KNOB_STORED } st_knob_print;

typedef struct {
    const char *name;    /* "rank" */
    const char *help;    /* one sentence, with the legal values */
    int64_t preset;      /* value when not given; ST_REQUIRED if it must be */
    st_knob_print print; /* where the text may leave it out when it is at its preset */
} st_knob;

#define ST_REQUIRED INT64_MIN

/* How comparisons show a type: under a label, by what is fitted to a size (a name, or names of
 * parts joined by '+'), with text added to the fitted spec's knobs. */
typedef struct {
    const char *label, *fit, *knobs;
} st_map_view;

enum { ST_VIEWS = 2 };

/* May the parameter be of a block format: is it read with its last side summed over, in groups of
 * whole blocks? */
static inline bool st_param_blocks(const st_param_shape *p)
{
    return p->flags & ST_MAP_BLOCKS && p->dim[p->ndim - 1] % 32 == 0;
}

/* Knobs of a row of any table, ST_KNOBS at most, ended by one without a name (knobs.c). */
int st_knobs_count(const st_knob *knob);
/* Sets value[] to the presets and then to what "knob=value,..." says (`items`, cut up; NULL: no
 * knobs given). ST_EARG showing `text`, the whole of it, and the nearest knob of `type`. */
st_status st_knobs_read(const char *type, const st_knob *knob, char *items, int64_t *value,
                        const char *text, st_err *e);
/* ST_EARG: `word` in `text` is no `what` ("matrix type") of `names`; the nearest is proposed. */
st_status st_knobs_unknown(const char *what, const char *word, const char *const *names,
                           const char *text, st_err *e);

/* An option of an init, "prune:second=0.1". */
typedef struct {
    const char *name, *help;
    const char *words; /* "even|odd": texts for 0, 1, ...; NULL: none */
    double preset, lo, hi;
} st_init_knob;

enum { ST_INITS = 4, ST_INIT_KNOBS = 4 };

/* A way to theta from a dense W (or from nothing) beside the nearest matrix. */
typedef struct {
    const char *name, *help;
    st_init_knob knob[ST_INIT_KNOBS];
    bool normalize; /* W' is scaled to |W'| = |W| afterwards */
    bool weighted;  /* takes notice of in_cov and out_weight */
    /* As st_map_type.project, with the values of the knobs. */
    st_status (*fill)(const st_spec *s, st_tensor w, const st_theta *t, const double *knob,
                      const st_project_opts *how, st_err *e);
} st_map_init;

typedef struct st_map_type {
    const char *name;     /* "monarch" */
    const char *summary;  /* one line for people */
    const char *equation; /* plain text, doc/MATH's symbols */
    const char *source;   /* paper */
    st_knob knob[ST_KNOBS];
    /* Fills knobs left at a "choose for me" preset and refuses illegal shapes and knobs, naming the
     * legal values; the only place that does. Idempotent. */
    st_status (*check)(st_spec *s, st_err *e);
    /* Number of parameters, their shapes, and an init whose W has entries of standard deviation
     * `std` (so that it can stand where a dense matrix with that init stood). */
    int (*params)(const st_spec *s, float std, st_param_shape out[ST_PARAMS]);
    /* Numbers per token that forward leaves for backward (0: none). */
    int64_t (*kept)(const st_spec *s);
    void (*forward)(const st_map_call *c);  /* y = x W^T + bias, and kept */
    void (*backward)(const st_map_call *c); /* dx = dy W; dtheta += dL/dtheta */
    /* A type that ends with one product of rows that came before: computes these (and kept) and
     * fills rows, n, k, x and w of what forward would make y of. False for specs that do not. */
    bool (*last)(const st_map_call *c, st_gelu_linear_args *a);
    /* A type that begins with a fold, whose z it keeps: the fold of `rows` rows. */
    void (*fold)(const st_spec *s, int64_t rows, st_fold_fwd_args *f);
    /* Row look-up, for embeddings: y (rows, in) = W[ids] + position, and the gradients of theta (as
     * in backward) and position; ids, y, dy and positions as in st_embed_fwd_args, whose tables are
     * not read. Of the call only q, spec, theta, tmp and (backward) dtheta count. W itself is never
     * formed. NULL: the type has none. A type that has it also takes a float32 y in forward where
     * all else is bfloat16. */
    void (*rows)(const st_map_call *c, const st_embed_fwd_args *a);
    void (*rows_backward)(const st_map_call *c, const st_embed_bwd_args *a);
    st_status (*rows_check)(const st_spec *s, st_err *e); /* refuses specs; NULL: all do */
    /* Sets theta (host, F32) to the nearest W in Frobenius norm, or the weighted one that `how`
     * (may be NULL) asks for, to w (out, in) host F32: exactly where a closed form exists, else to
     * a stationary point (said in the file's head) that is no worse than the unweighted projection.
     */
    st_status (*project)(const st_spec *s, st_tensor w, const st_theta *t,
                         const st_project_opts *how, st_err *e);
    /* theta and bias (zeroed; or absent) of a new matrix (host, F32) by how->law, which is not
     * ST_FRESH_DENSE. NULL: as params says under every law. */
    void (*fresh)(const st_spec *s, const st_fresh_opts *how, const st_theta *t, st_tensor bias);
    /* Inits of this type alone; st_map_inits has those of every type. */
    st_map_init init[ST_INITS];
    /* W *= by, in place; NULL: the first parameter is multiplied. */
    void (*scale)(const st_spec *s, const st_theta *t, float by);
    /* Neighbouring outputs (or inputs) i g .. i g + g - 1 that share a column (row) of a larger
     * factor, so that their order decides how near W' can be: g. NULL: 1, none do. */
    int64_t (*tied)(const st_spec *s, bool out);
    /* W (out, in) host F32 from host theta; NULL: st_map_expand runs forward on the identity. */
    st_status (*expand)(const st_spec *s, const st_theta *t, st_tensor w, st_err *e);
    /* Knobs that give about `params` weights for the shape of s (in, out set; type set); used by
     * size-matched comparisons. ST_ESHAPE if the type cannot come within 15 %. */
    st_status (*fit)(st_spec *s, int64_t params, st_err *e);
    /* The knob by which the type's authors say how much smaller it is: so many times the factor.
     * NULL: none. */
    struct {
        const char *knob;
        int times;
    } sized;
    st_map_view view[ST_VIEWS]; /* none: one, of its name */
} st_map_type;

extern const st_map_type *const st_map_types[]; /* NULL-terminated; table.c */
extern const st_map_type st_map_dense;          /* what comparisons begin with */
extern const st_map_type st_map_lowrank;        /* their control: to be beaten at its size */

const st_map_type *st_map_find(const char *name); /* NULL if unknown */
/* The i-th view of all types but dense, in the table's order; false beyond the last. */
bool st_map_view_at(int i, st_map_view *out);

/* Parses "type:knob=value,..." (or parts joined by '+') for a matrix (out, in) and checks it.
 * Unknown types and knobs are ST_EARG with the nearest legal name. */
st_status st_spec_parse(st_spec *out, const char *text, int64_t in, int64_t out_dim, st_err *e);
/* Checks a spec put together by hand and fills its "choose for me" knobs. */
st_status st_spec_check(st_spec *s, st_err *e);
/* The canonical text, stored with the weights; parsing it gives the same spec. */
void st_spec_print(const st_spec *s, char text[ST_SPEC_TEXT]);
/* The same for people's eyes: knobs at their preset left out where that is unambiguous. */
void st_spec_label(const st_spec *s, char text[ST_SPEC_TEXT]);
bool st_spec_equal(const st_spec *a, const st_spec *b);
/* ST_EUNSUPPORTED or ST_ESHAPE unless W's rows can be looked up, so that it can be an embedding. */
st_status st_spec_rows(const st_spec *s, st_err *e);
/* A spec of type `name` (or "a+b", "a+b+gate", "a+b+mean") with about `params` weights. */
st_status st_spec_fit(st_spec *out, const char *name, int64_t in, int64_t out_dim, int64_t params,
                      st_err *e);

int64_t st_spec_tied(const st_spec *s, bool out); /* as st_map_type.tied */
int64_t st_spec_weights(const st_spec *s);        /* exact number of parameters, bias not counted */
/* Exact multiply-adds per token of a forward over `rows` tokens on `q`'s paths (dry run). */
st_status st_spec_macs(const st_spec *s, const st_stream *q, int64_t rows, double *out, st_err *e);
/* W (out, in) host F32 from host F32 theta: the forward of the identity (on the ref backend, large
 * ones on cpu). Of a gated sum: the matrix at gate weights zero, (1 - g) S + g L with
 * g = sigmoid(gate bias). */
st_status st_map_expand(const st_spec *s, const st_theta *t, st_tensor w, st_err *e);

/* ---- where a structured matrix starts (start.c) ---------------------------------------------- */

extern const st_map_init st_map_inits[]; /* of every type, the default first; ends with name NULL */

/* An init as chosen: "vl", "prune:second=0.1". */
typedef struct {
    const st_map_init *row;
    double knob[ST_INIT_KNOBS];
} st_start;

/* Parses `text` (NULL: the default) for a matrix of this spec. Unknown names and values are ST_EARG
 * with the nearest legal one. */
st_status st_start_parse(st_start *out, const st_spec *s, const char *text, st_err *e);
/* The inits that `type` knows, its own first: the i-th, or NULL. */
const st_map_init *st_start_at(const st_map_type *type, int i);

/* How far W' is from W, in Frobenius norm. */
typedef struct {
    double total;  /* |W|^2 */
    double lost;   /* |W - W'|^2 */
    double energy; /* <W, W'>^2 / (|W|^2 |W'|^2): the share of W that points along W'; of the
                    * nearest matrix 1 - lost / total, whatever its scale afterwards */
    double alpha;  /* what W' was multiplied with; 1 unless the init normalises */
} st_fit;

/* Sets theta (host, F32) from w (out, in) host F32, and *fit (may be NULL). */
st_status st_map_start(const st_spec *s, const st_start *start, st_tensor w, const st_theta *t,
                       const st_project_opts *how, st_fit *fit, st_err *e);

/* Fills theta and bias (may be absent; host, F32) of a new matrix. */
void st_map_fresh(const st_spec *s, const st_fresh_opts *how, const st_theta *t, st_tensor bias);

/* ---- st_linear: map + bias, with its gradients ----------------------------------------------- */

typedef struct {
    st_spec spec;
    st_theta w, dw;        /* dw F32, absent when not training */
    st_tensor bias, dbias; /* bias absent: none */
} st_linear;

/* Numbers per token in `kept` of st_linear_forward; 0 means pass an absent tensor. */
int64_t st_linear_kept(const st_linear *l);
void st_linear_forward(st_stream *q, const st_linear *l, st_tensor x, st_tensor y, st_tensor kept,
                       st_arena *tmp);
/* kept = what `l` begins with, of norm(norm->x), whose y is not looked at; for
 * st_linear_folded_forward. False where the backend or the type has no such thing: nothing was
 * done. */
bool st_linear_norm(st_stream *q, const st_linear *l, const st_norm_fwd_args *norm, st_tensor kept);
/* Backward of both: gradients of `l` added, and norm_bwd of `norm`, whose dy is not looked at. */
void st_linear_norm_backward(st_stream *q, const st_linear *l, const st_norm_bwd_args *norm,
                             st_tensor kept, st_tensor dy, st_arena *tmp);
/* y = gelu of what st_linear_forward makes, h that itself if `keep`, else scratch; where `next`
 * begins with a fold, y is what it keeps of gelu (st_linear_folded), else (n, out). x absent: from
 * `kept`, which is set (st_linear_norm). False where the
 * backend or the types have no such thing: nothing was done. */
bool st_linear_gelu(st_stream *q, const st_linear *l, const st_linear *next, st_gelu_kind kind,
                    bool keep, st_tensor x, st_tensor h, st_tensor y, st_tensor kept,
                    st_arena *tmp);
/* Whether the type begins with a fold and the backend has operations that end with one. */
bool st_linear_folds(const st_stream *q, const st_linear *l);
/* Forward from `kept`, which is set; and backward to its gradient, through the GELU of h: dh set,
 * dbias += the sums of its columns, unless absent. */
void st_linear_folded_forward(st_stream *q, const st_linear *l, st_tensor kept, st_tensor y,
                              st_arena *tmp);
void st_linear_folded_backward(st_stream *q, const st_linear *l, st_gelu_kind kind, st_tensor kept,
                               st_tensor h, st_tensor dy, st_tensor dh, st_tensor dbias,
                               st_arena *tmp);
/* Outputs [first, first + n) of `l` as a linear of their own, without gradients: views. False where
 * the type's weights, or packed blocks, do not come apart so; *part is then unspecified. */
bool st_linear_part(const st_linear *l, int64_t first, int64_t n, st_linear *part);
/* y = W[ids] + position (st_map_type.rows), and its gradients; st_spec_rows must have passed. */
void st_linear_rows(st_stream *q, const st_linear *l, const st_embed_fwd_args *a, st_arena *tmp);
void st_linear_rows_backward(st_stream *q, const st_linear *l, const st_embed_bwd_args *a,
                             st_arena *tmp);
/* dx set (unless absent); dw and dbias added to. */
void st_linear_backward(st_stream *q, const st_linear *l, st_tensor x, st_tensor kept, st_tensor dy,
                        st_tensor dx, st_arena *tmp);

/* ---- SS1 as its authors released it ---------------------------------------------------------- */

/* Hash constants r0..r3 of the released code for a seed: version 3 (since 30 October 2024), 2 (from
 * the 20th) or 1 (the paper's). */
void st_ss1_constants(uint64_t seed, int version, int64_t r[4]);
/* Between the release's weight order and ours, for an ss1 spec with folds=1, signs=0. Arrays of
 * st_spec_weights(s) numbers that do not overlap. */
void st_ss1_import(const st_spec *s, const float *released, float *weight);
void st_ss1_export(const st_spec *s, const float *weight, float *released);

/* ---- butterfly as fly stores it -------------------------------------------------------------- */

/* The butterfly spec whose tiles are those for which `layout` (ceil(out/block), ceil(in/block)) is
 * not 0; ST_EUNSUPPORTED if there is none. */
st_status st_butterfly_find(st_spec *s, int64_t in, int64_t out, int64_t block,
                            const int32_t *layout, st_err *e);

/* That layout, new memory, its two sides in dim, of a butterfly or a sum with one; NULL: out of
 * memory, or there is none. */
int32_t *st_butterfly_layout(const st_spec *s, int64_t dim[2]);

#endif
