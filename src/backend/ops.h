/* Argument structs and contracts of the backend operations (list: ops.def; meaning: ref/).
 *
 * Common rules. Tensors named without a shape are flat and only their element count matters; zero
 * is the sensible default of every field; a tensor whose data is NULL is absent. "float" tensors
 * are F32 or BF16; all arithmetic and every sum is float32 or better, rounded once when stored.
 * Block formats (tensor.h) are taken where the contract names them, and nowhere else.
 * Outputs and inputs may not overlap unless the contract says so. Operations run in stream order.
 * Same inputs, same stream kind and same thread count give the same bits. */
/* Long: the contract of every operation. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_OPS_H
#define ST_OPS_H

#include "tensor/tensor.h"

typedef struct st_stream st_stream;

/* C[b] = beta * C[b] + op(A[b]) op(B[b]) + bias, for b < batch (0 means 1).
 *   op(A) (m, k): stored (m, k), or (k, m) if ta.   op(B) (k, n): stored (k, n), or (n, k) if tb.
 *   a, b float, same dtype; c float, that dtype or F32; bias (n), the dtype of a, or absent.
 *   ld*: elements between stored rows; 0 = natural (stored row length).
 *   step_*: elements between batches; 0 = natural (the stored matrix's size with its ld), so a
 *   shared operand is written as step -1.
 *   b may be of a block format where ta = 0, tb = 1 and k, ldb and step_b are multiples of 32, or
 * of a packed one where it is whole matrices (n, k) one behind the other; the backend may then
 * round the rows of a to Q8_0 blocks (as llama.cpp does), nothing else. bias_rows p > 1: bias is
 * (p, n) and row i of C gets row i % p. step_bias: between the biases of batches; 0 = one bias for
 * all batches. A GPU's library may round a product to the dtype of c before bias and beta*C meet
 * it. beta 0 ignores what was in C (NaN included). k may be 0: then C = beta*C + bias. */
typedef struct {
    int64_t m, n, k, batch, lda, ldb, ldc, step_a, step_b, step_c;
    int64_t bias_rows, step_bias;
    st_tensor a, b, c, bias;
    int ta, tb;
    float beta;
} st_gemm_args;

/* Layer normalisation over the last `width` numbers of each of `rows` rows (Ba et al. 2016; biased
 * variance). gain, bias (width), dtype of x.
 *   fwd: x -> y (same dtype), and mean, rstd (rows) F32 unless absent.
 *   rms: rows keep their mean: y = x gain / sqrt(mean(x^2) + eps) (Zhang & Sennrich 2019); mean,
 *        bias and dbias are absent.
 *   bwd: reads x, mean, rstd, gain, dy; dx (dtype of x) is set, or added to if `accumulate`;
 *        dgain, dbias (width) F32 are added to, each unless absent. dx may be dy's memory only
 *        when not accumulating. */
typedef struct {
    int64_t rows, width;
    st_tensor x, y, gain, bias, mean, rstd, dy, dx, dgain, dbias;
    float eps;
    int accumulate, rms;
} st_norm_fwd_args;
typedef st_norm_fwd_args st_norm_bwd_args;

/* A tensor whose rows are tokens: row t of head h of batch item i begins at element
 *   i*step + t*stride + h*head_dim
 * of x, so that it may be a slice of a packed tensor, or a cache. 0 means natural: a stride of
 * (its heads)*head_dim, a step of the rows' number times the stride. */
typedef struct {
    st_tensor x;
    int64_t stride, step;
} st_strided;

/* What all kinds of attention see: heads of queries q (q_len rows), keys k and values v (kv_len
 * rows), and outputs o (q_len rows), all of head_dim numbers and of the same float dtype.
 * kv_heads (0: heads), a divisor of heads: k and v have so many; head h reads theirs numbered
 * h / (heads / kv_heads) (Ainslie et al. 2023). Of the operations attend alone takes fewer. */
typedef struct {
    int64_t batch, heads, head_dim, q_len, kv_len, kv_heads;
    st_strided q, k, v, o;
} st_heads;

/* Softmax attention: o = softmax(scale * q k^T) v over keys j < kv_len.
 *   causal      only keys j <= q_start + t
 *   window w    > 0 (bwd: causal only): also, with p = q_start + t, only keys p - w/2 <= j < p + (w
 * + 1)/2 (an even w has one more before p), or, if causal, the w keys p - w < j <= p; o is 0 where
 * that leaves none lse         (batch, heads, q_len) F32: log-sum-exp of the scaled scores; needed
 * by bwd, may be absent. fwd without it may round weights to the dtype before they meet v; a GPU
 * always does, and rounds the gradients of scores likewise drop        probability of zeroing an
 * attention weight after the softmax, survivors / (1 - drop); weight (i, h, t, j) uses number
 * ((i*heads + h)*q_len + t)*kv_len + j of stream (seed, 0) bwd         reads q k v o lse go; sets
 * gq, gk, gv. These lie like q, k, v, and go like o. O(T) memory in T. */
typedef struct {
    st_heads h;
    int64_t q_start, window;
    st_tensor lse, go, gq, gk, gv;
    float scale, drop;
    uint64_t seed;
    int causal;
} st_attend_fwd_args;
typedef st_attend_fwd_args st_attend_bwd_args;

/* One position more of each batch item, attended from. With p = at[0], below h.kv_len (what the
 * cache has room for), row p of h.k and h.v becomes the item's row of k and v; then o =
 * softmax(scale * q k^T) v over the keys 0 .. p, or the last `window` > 0 of them. h.q_len is 1.
 * `at` I32 (1), on the device, so that a recording serves every position. */
typedef struct {
    st_heads h;
    st_strided k, v;
    st_tensor at;
    int64_t window;
    float scale;
} st_attend_next_args;

/* Positive features phi(x) of a row of x (head_dim); w (features, head_dim) float serves all heads.
 *   EXP   exp(w_m.x' - |x'|^2 / 2) / sqrt(features), x' = sqrt(scale) x (Choromanski et al. 2021)
 *   COSH  the same of w and of -w: w has features / 2 rows
 *   RELU  max(0, w_m.x / head_dim^(1/4)) + 1e-3
 *   ELU   x_m + 1 where x_m > 0, else e^x_m (Katharopoulos et al. 2020): features = head_dim, no w
 */
typedef enum { ST_FAVOR_EXP, ST_FAVOR_COSH, ST_FAVOR_RELU, ST_FAVOR_ELU } st_favor_map;

/* Attention through positive features, linear in the lengths:
 *   o_i = sum_j a_ij v_j / (sum_j a_ij + eps),  a_ij = phi(q_i).phi(k_j)
 * over all keys; if causal, over keys j <= q_start + i. Where window > 0, keys inside the window of
 * i (as in st_attend_fwd_args) have a_ij = exp(scale q_i.k_j) instead (Chen et al. 2021).
 * Exponents are shifted, and eps with them, so that neither large nor small ones overflow, vanish
 * or give a NaN. shifted (not causal, no window): exponents of EXP and COSH lose a constant, which
 * eps does not: of queries max_m w_m.x', of keys the largest w_m.x' of the head; lift is then added
 * to each exp(). scale 0 means 1. work F32 (st_favor_work numbers, overwritten; absent if 0). */
typedef struct {
    st_heads h;
    int64_t features, q_start, window;
    st_tensor w, work;
    float scale, eps, lift;
    st_favor_map map;
    int causal, shifted;
} st_favor_args;

/* Keys that are summed together, where not all are seen alike; 0: they are. */
static inline int64_t st_favor_block(const st_favor_args *a)
{
    if (!a->window && !a->causal) return 0;
    return a->window && a->window <= 64 ? 48 : 96;
}
static inline int64_t st_favor_work(const st_favor_args *a)
{
    int64_t block = st_favor_block(a), sides = a->causal ? 1 : 2;
    if (block == 0) return 0;
    int64_t blocks = (a->h.kv_len + block - 1) / block;
    return a->h.batch * a->h.heads * sides * blocks * a->features * (a->h.head_dim + 2);
}

/* Orders of rows by locality-sensitive hashes: order (batch, heads, hashes, total) I32 lists the
 * rows of h.q by rising hash, rows of equal hash by number. Rows from q_len on are zeros; those
 * from `sorted` on (0: total) come last, whatever their hash.
 *   buckets > 0   an even number: the place of the largest of all w_b.x, then all -w_b.x, the first
 *                 of equal ones; w (hashes, buckets / 2, head_dim) (Andoni et al. 2015)
 *   buckets 0     w_h.(x, far, 0), or w_h.(x, 0, far) if `mirrored`; w (hashes, head_dim + 2),
 *                 far = sqrt(max |x|^2 + max |y|^2 - |x|^2) over the rows x of h.q and y of h.k
 *                 (Daras et al. 2020)
 * Sums are double precision in index order; far and hashes are then rounded to float32: the order
 * is the same on every device. A NaN is no largest, and as a hash follows all numbers. w F32; h.v,
 * h.o and, where there are buckets, h.k are not read; head_dim <= ST_LSH_DIM; work F32 (st_lsh_work
 * numbers, overwritten). */
typedef struct {
    st_heads h;
    int64_t hashes, buckets, total, sorted;
    st_tensor w, order, work;
    int mirrored;
} st_lsh_order_args;

enum { ST_LSH_DIM = 1 << 14 };

static inline int64_t st_lsh_work(const st_lsh_order_args *a)
{
    return a->h.batch * a->h.heads * (3 * a->hashes * a->total + 2);
}

/* Softmax attention among rows that orders put together. For each hash, the `clusters` stretches of
 * q_cluster queries in q_order (batch, heads, hashes, clusters * q_cluster) I32 see the same ones
 * of k_cluster keys in k_order: o_i = sum e^(s_ij) v_j / sum e^(s_ij),  s_ij = scale q_i.k_j, over
 * all keys that i sees, as often as it does; 0 where there are none. Each stretch of total numbers
 * in an order is a permutation of 0 .. total - 1; those from q_len, kv_len on stand for nothing.
 *   shared   the keys are q's rows divided by their lengths (k, k_order and k_cluster stand empty,
 *            kv_len is q_len, clusters >= 2); queries see the cluster before theirs too, the first
 *            the last; s_ii = -5e4 (Kitaev et al. 2020).
 * work F32 (st_lsh_attend_work numbers, overwritten). */
typedef struct {
    st_heads h;
    int64_t hashes, clusters, q_cluster, k_cluster;
    st_tensor q_order, k_order, work;
    float scale;
    int shared;
} st_lsh_attend_args;

static inline int64_t st_lsh_attend_work(const st_lsh_attend_args *a)
{
    return a->hashes > 1 ? a->h.batch * a->h.heads * a->h.q_len * (a->h.head_dim + 2) : 0;
}

/* Random directions w (rows, cols) F32, the same on every device. Each `cols` rows are orthogonal,
 * uniformly distributed (Haar); every row is as long as an independent normal vector of that size,
 * or sqrt(cols) if `equal`. std > 0: independent N(0, std^2) numbers instead. From Philox streams
 * of `seed` numbered by `stream`. */
typedef struct {
    int64_t rows, cols;
    st_tensor w;
    uint64_t seed, stream;
    float std;
    int equal;
} st_directions_args;

typedef enum { ST_GELU_TANH, ST_GELU_ERF } st_gelu_kind; /* HF "gelu_new", "gelu" */

/* y = gelu(x); dx = dy * gelu'(x). y may be x's memory, dx may be dy's. Same float dtype. */
typedef struct {
    st_tensor x, y, dy, dx;
    st_gelu_kind kind;
} st_gelu_fwd_args;
typedef st_gelu_fwd_args st_gelu_bwd_args;

/* A gated unit: y = act(g) u (Shazeer 2020); bwd: dg = dy u act'(g), du = dy act(g), each of which
 * may be g's, u's or dy's memory, as may y be g's or u's. SILU is g sigmoid(g). Same float dtype.
 */
typedef enum { ST_GLU_SILU, ST_GLU_GELU_TANH, ST_GLU_GELU_ERF } st_glu_kind;
typedef struct {
    st_tensor g, u, y, dy, dg, du;
    st_glu_kind kind;
} st_glu_fwd_args;
typedef st_glu_fwd_args st_glu_bwd_args;

/* Rotary positions (Su et al. 2021). In each head of x (rows, heads*head_dim, rows `stride` apart;
 * 0: natural) the pairs i < half of numbers a = x[i], b = x[half + i] become
 *   (a c - b s, a s + b c),  c = scale cos(t), s = scale sin(t), t = position freq[i]
 * in y, x's memory or another of the same layout; other numbers of a head are copied. Row r has
 * position start + r % len; t is rounded to float32. back: s is negated, which is the gradient's
 * way. half <= ST_ROTARY. freq: of the host, read during the call. at: I32 (1) on the device, added
 * to start; absent: 0. */
enum { ST_ROTARY = 256 };
typedef struct {
    int64_t rows, heads, head_dim, half, len, start, stride;
    const float *freq;
    st_tensor x, y, at;
    float scale;
    int back;
} st_rotary_args;

/* fwd: y = a + drop(b), a absent = 0; y may be a's or b's memory.
 * bwd: db = drop'(dy); db may be dy's memory. (da is dy: nothing to do.)
 * Element i survives if number i of stream (seed, 0) (ST_KEEP below) and is divided by 1 - drop. */
typedef struct {
    st_tensor a, b, y, dy, db;
    float drop;
    uint64_t seed;
} st_residual_fwd_args;
typedef st_residual_fwd_args st_residual_bwd_args;

/* fwd: y[i] = table[ids[i]] + position[start + i % len]; position may be absent. Without a table
 *      y[i] += position[..]: rows that were found in another way.
 *      at (fwd only): I32 (1) on the device, added to start; absent: 0.
 * bwd: dtable[ids[i]] += dy[i], dposition[start + i % len] += dy[i] (F32, each unless absent), in
 *      a fixed order.
 * ids (rows) I32, all < number of table rows; table (V, width), position (P, width), y, dy (rows,
 * width) float. columns: table and dtable are (width, V), of which column ids[i] counts. fwd: table
 * may be of a block format, without columns and with a width that is a multiple of 32. */
typedef struct {
    int64_t rows, width, len, start;
    st_tensor ids, table, position, y, dy, dtable, dposition, at;
    int columns;
} st_embed_fwd_args;
typedef st_embed_fwd_args st_embed_bwd_args;

/* Cross entropy. loss[r] = logsumexp(logits[r]) - logits[r][target[r]], 0 where target < 0;
 * dlogits (unless absent) = scale * (softmax - onehot), 0 where target < 0; may be logits' memory.
 *   logits, dlogits (rows, width) float, dtypes may differ, rows `stride` numbers apart (0: width);
 *   targets (rows) I32 < width; loss (rows) F32 or absent. */
typedef struct {
    int64_t rows, width, stride;
    st_tensor logits, targets, loss, dlogits;
    float scale;
} st_xent_args;

/* Cross entropy with the targets and the divergence from a teacher's logits t (Hinton et al. 2015).
 * With p = softmax(logits / T), p_t = softmax(teacher / T), T = temperature > 0:
 *   loss[r] as xent's;  kl[r] = sum_j p_t (log p_t - log p), 0 where target < 0;
 *   dlogits (unless absent) = scale (softmax(logits) - onehot) + kl_scale T (p - p_t), the gradient
 *   of scale loss + kl_scale T^2 kl, 0 where target < 0; may be logits' memory.
 * logits, teacher, dlogits (rows, width) float, dtypes may differ, rows `stride` apart (0: width);
 * targets (rows) I32 < width; loss, kl (rows) F32, each or absent. */
typedef struct {
    int64_t rows, width, stride;
    st_tensor logits, teacher, targets, loss, kl, dlogits;
    float scale, kl_scale, temperature;
} st_distill_args;

/* Squared distance of rows from a teacher's: e[r] = w |x[r] - t[r]|^2 with w = 1/|t[r]|^2 (0 for a
 * row of zeros) if relative, else 1/width. loss[r] += e[r] (F32, unless absent); dx += scale *
 * de/dx. x, t (rows, width) float, dx of the dtype of x. */
typedef struct {
    int64_t rows, width;
    st_tensor x, t, loss, dx;
    float scale;
    int relative;
} st_match_args;

/* Square windows of images as rows (im2col), normalised where `gain` is there:
 *   row (i*oh + r)*ow + c of y has at (ch*kernel + v)*kernel + u what x has in image i, channel ch,
 *   row r*stride - pad + v, column c*stride - pad + u; zero outside of the image.
 *   oh = (height + 2 pad - kernel) / stride + 1 (rounded down), ow likewise.
 * x (batch, height, width, channels), or (batch, channels, height, width) if `planes`; y (rows,
 * channels*kernel*kernel); gain, bias as in st_norm_fwd_args, with y's dtype. x float of any dtype.
 */
typedef struct {
    int64_t batch, channels, height, width, kernel, stride, pad;
    st_tensor x, y, gain, bias;
    float eps;
    int planes;
} st_unfold_args;

/* dbias[j] += sum over rows of dy[r][j]. dy (rows, width) float, dbias (width) F32. */
typedef struct {
    int64_t rows, width;
    st_tensor dy, dbias;
} st_bias_grad_args;

/* Few rows times square tiles where they are stored. Tile row i < tile_rows has `wide` tiles
 * (block, block) after each other, over the same columns in every row: tile columns first[u] ..
 * first[u] + count[u] - 1 of each of `runs` runs (host arrays, read during the call), `wide` in
 * all. With col(c) the tile column of place c,
 *   y[r][i*block + o] = bias[i*block + o]
 *                     + sum_{c < wide, j < block} tiles[i*wide + c][o][j] * x[r][col(c)*block + j]
 * x (rows, cols), columns from cols on count as 0; y has rows ldy apart, of which the first `outs`
 * numbers are set. bias (outs) or absent. One float dtype. */
typedef struct {
    int64_t rows, tile_rows, wide, block, cols, outs, ldy, runs;
    const int64_t *first, *count;
    st_tensor x, tiles, bias, y;
} st_tiles_args;

/* y[r][j][i][.] = x[r][i][j][.], i < p, j < q, with `inner` (0 = 1) numbers at the end; p*q*inner
 * numbers a row. Same float dtype. accumulate: y += instead. */
typedef struct {
    int64_t rows, p, q, inner;
    st_tensor x, y;
    int accumulate;
} st_permute_args;

/* y[r][c] = x[r][c] for c < cols and 0 for cols <= c < pad, in a y whose rows are ldy apart; x rows
 * are ldx apart (0 = natural: cols for x, max(cols, pad) for y). Float dtypes may differ (a cast).
 * accumulate: y += (pad then ignored). rows 0 = 1 row; cols 0 = all of x. */
typedef struct {
    int64_t rows, cols, ldx, ldy, pad;
    st_tensor x, y;
    int accumulate;
} st_copy_args;

/* x[i] = value. */
typedef struct {
    st_tensor x;
    float value;
} st_fill_args;

/* y = s[0] * x (accumulate: y +=); y may be x's memory. s (1) float. Float dtypes may differ. */
typedef struct {
    st_tensor x, y, s;
    int accumulate;
} st_scale_args;

/* c[0] += sum a[i]*b[i]; c (1) F32; a, b float, dtypes may differ. */
typedef struct {
    st_tensor a, b, c;
} st_dot_args;

/* Per-row mix of two branches by a logit (fly's sparse + low-rank gate). g[r] = sigmoid(z[r]).
 *   fwd: y = (1 - g) s + g l; y may be s's or l's memory.
 *   bwd: ds = (1 - g) dy; dl = g dy; dz[r] = g (1 - g) <dy[r], l[r] - s[r]>. ds may be dy's memory.
 * s, l, y, dy, ds, dl (rows, width); z, dz (rows): one float dtype. */
typedef struct {
    int64_t rows, width;
    st_tensor s, l, z, y, dy, ds, dl, dz;
} st_gate_fwd_args;
typedef st_gate_fwd_args st_gate_bwd_args;

/* SS1's fold (sketch of the input; doc/MATH). K = supers*factor*block columns are read, where
 * columns >= cols count as zero; folds*supers*block columns are written per row:
 *   z[h][k*block + j] = sum_{l<factor} g(h,k,l) * x[(k*factor + l)*block + (j + s(h,k,l)) % block]
 * with shift s and sign g from st_fold_hash below.
 *   fwd: x (rows, cols) -> z (rows, folds*supers*block).
 *   bwd: dz -> dx (rows, cols), the transpose; set, not added. One float dtype. */
typedef struct {
    int64_t rows, cols, block, factor, supers, folds;
    int64_t vec, r0; /* release hash: s = r0*(l+1)*vec mod block, no signs (folds == 1) */
    uint64_t seed;   /* folds > 1 or signs: hash drawn from Philox stream (seed, 0x551) */
    int signs;
    st_tensor x, z, dz, dx;
} st_fold_fwd_args;
typedef st_fold_fwd_args st_fold_bwd_args;

/* norm_fwd and fold_fwd in one: fold.z from norm.x, with norm.mean and rstd unless absent. norm.y
 * and fold.x are not looked at, rows and columns are the same in both. What is folded is not
 * rounded before. */
typedef struct {
    st_norm_fwd_args norm;
    st_fold_fwd_args fold;
} st_norm_fold_args;
/* fold_bwd and norm_bwd in one: norm_bwd of norm, whose dy is not looked at, but made of fold.dz;
 * whether it is rounded is the backend's choice. */
typedef st_norm_fold_args st_norm_unfold_args;

/* fold_fwd with one fold, and y (fold.rows, n) = fold.z w^T + bias; w (n, width of z), bias (n) or
 * absent. One float dtype. */
typedef struct {
    int64_t n;
    st_fold_fwd_args fold;
    st_tensor w, bias, y;
} st_fold_linear_args;

/* h = x w^T + bias and what an MLP makes of it: y = gelu(h), or the fold of that where fold.block >
 * 0 (fold.rows = rows, fold.cols = n; its tensors are not looked at). x (rows, k), w (n, k), bias
 * (n) or absent, h (rows, n), y (rows, n) or the fold's z: one float dtype. keep: h is wanted, else
 * it is scratch that may stay as it was, and without a fold may be y's memory. Whether h is rounded
 * before the GELU is the backend's choice. */
typedef struct {
    int64_t rows, n, k;
    st_tensor x, w, bias, h, y;
    st_fold_fwd_args fold;
    st_gelu_kind kind;
    int keep;
} st_gelu_linear_args;

/* dx = (the transpose of the fold of dz) * gelu'(h): fold_bwd and gelu_bwd in one. fold as in
 * fold_bwd with its dz and dx; h like dx. dbias (cols) F32: the sums of dx's columns are added,
 * before or after rounding, unless absent. */
typedef struct {
    st_fold_bwd_args fold;
    st_tensor h, dbias;
    st_gelu_kind kind;
} st_gelu_unfold_args;

/* out[0] += sum of x[i]^2, in a fixed order. x float, out (1) F32. */
typedef struct {
    st_tensor x, out;
} st_sumsq_args;

/* AdamW (Loshchilov & Hutter 2019, PyTorch's form), one update of a flat range:
 *   g = grad*grad_scale; w -= lr*wd*w; m = b1*m+(1-b1)*g; v = b2*v+(1-b2)*g^2;
 *   w -= lr * (m/(1-b1^t)) / (sqrt(v/(1-b2^t)) + eps)
 * on `master` F32, or on w itself where master is absent (w is then F32); w is the rounded copy.
 * grad, m, v F32. step t >= 1. */
typedef struct {
    st_tensor w, master, grad, m, v;
    float lr, beta1, beta2, eps, decay, grad_scale;
    int64_t step;
} st_adamw_args;

/* Exponential moving average of a flat range: mean += rate (x - mean), rate in [0, 1]. x, mean F32.
 */
typedef struct {
    st_tensor x, mean;
    float rate;
} st_average_args;

/* ---- random numbers inside operations, the same on every backend ----------------------------- */

/* Number i of stream (seed, stream): word i%4 of Philox block i/4. */
static inline uint32_t st_op_u32(uint64_t seed, uint64_t stream, int64_t i)
{
    return st_philox(seed, stream, (uint64_t)i / 4).v[(uint64_t)i % 4];
}
/* Dropout: keep element i iff its number is at or above this threshold. */
static inline uint32_t st_drop_below(float drop)
{
    double t = (double)drop * 4294967296.0;
    return t >= 4294967295.0 ? 4294967295u : (uint32_t)t;
}
#define ST_KEEP(seed, i, below) (st_op_u32((seed), 0, (i)) >= (below))

typedef struct {
    int64_t shift; /* in [0, block) */
    float sign;    /* +1 or -1 */
} st_fold_term;

static inline st_fold_term st_fold_hash(const st_fold_fwd_args *a, int64_t h, int64_t k, int64_t l)
{
    if (a->folds <= 1 && !a->signs) {
        uint64_t q = (uint64_t)(a->block / a->vec);
        uint64_t s = (uint64_t)a->r0 % q * (uint64_t)((l + 1) % (int64_t)q) % q;
        return (st_fold_term){(int64_t)s * a->vec, 1.0f};
    }
    st_philox_block b = st_philox(a->seed, 0x551, (uint64_t)((h * a->supers + k) * a->factor + l));
    int64_t q = a->block / a->vec;
    float sign = a->signs && (b.v[1] >> 31) ? -1.0f : 1.0f;
    return (st_fold_term){(int64_t)(b.v[0] % (uint64_t)q) * a->vec, sign};
}

#endif
