/* Attention through positive random features (formulas: ref/favor.c) in blocks of rows, whose
 * logits and sums are products of packed panels (attention.h). Of each (batch item, head), threads
 * take stretches of the keys, with running maxima; their sums are joined in order, then threads
 * take stretches of the queries. */
/* SPDX-License-Identifier: MIT */

typedef struct {
    attend_space blocks;
    float *logit;             /* (ATTEND_Q, features) */
    float *top, *total, *sum; /* (features), (features), (features, head_dim) */
} favor_space;

static favor_space favor_space_of(const st_stream *q, const st_favor_args *a, int part)
{
    favor_space s = {.blocks = attend_space_of(q, part)};
    s.logit = s.blocks.dot + ATTEND_Q;
    s.top = s.logit + ATTEND_Q * a->features;
    s.total = s.top + a->features;
    s.sum = s.total + a->features;
    return s;
}

static bool favor_fits(const st_favor_args *a)
{
    size_t blocks =
        2 * ATTEND_Q * ATTEND_KEYS + 2 * ATTEND_PANEL + 2 * ATTEND_KEYS * ATTEND_DIM + 3 * ATTEND_Q;
    size_t room = ST_CPU_SCRATCH / sizeof(float) - blocks;
    return (size_t)a->features <= room / (size_t)(ATTEND_Q + 2 + a->head_dim);
}

/* Logits of n <= ATTEND_Q rows. What no float32 holds becomes the lowest number. */
static void favor_logits(const st_favor_args *a, favor_space s, gemm_view x, int64_t n)
{
    gemm_view w = {a->w.data, a->w.dtype, a->head_dim, 1};
    float root = sqrtf(a->scale);
    for (int64_t f = 0; f < a->features; f += ATTEND_KEYS) {
        attend_product(s.blocks, x, gemm_transposed(gemm_at(w, f, 0)), n,
                       at_most(a->features - f, ATTEND_KEYS), a->head_dim, s.logit + f, a->features,
                       0);
    }
    for (int64_t i = 0; i < n; i++) {
        float half = 0, *logit = s.logit + i * a->features;
        for (int64_t c = 0; c < a->head_dim; c += BLOCK) {
            float buf[BLOCK];
            int64_t m = at_most(a->head_dim - c, BLOCK);
            gemm_view row = gemm_at(x, i, c);
            const float *v = floats_in(row.data, row.dtype, 0, m, buf);
#pragma omp simd reduction(+ : half)
            for (int64_t j = 0; j < m; j++)
                half += v[j] * v[j];
        }
        half *= 0.5f * a->scale;
#pragma omp simd
        for (int64_t f = 0; f < a->features; f++) {
            float l = logit[f] * root - half;
            logit[f] = l < -3e38f ? -3e38f : l;
        }
    }
}

/* Sums over keys [lo, hi) of one head. */
static void favor_keys(const st_favor_args *a, favor_space s, gemm_view k, gemm_view v,
                       st_span keys)
{
    int64_t m = a->features, d = a->head_dim;
    for (int64_t f = 0; f < m; f++)
        s.top[f] = -INFINITY, s.total[f] = 0;
    memset(s.sum, 0, (size_t)(m * d) * sizeof *s.sum);
    for (int64_t j = keys.lo; j < keys.hi; j += ATTEND_Q) {
        int64_t n = at_most(keys.hi - j, ATTEND_Q);
        favor_logits(a, s, gemm_at(k, j, 0), n);
        for (int64_t f = 0; f < m; f++) {
            float most = s.top[f], total = 0;
            for (int64_t i = 0; i < n; i++)
                most = s.logit[i * m + f] > most ? s.logit[i * m + f] : most;
            float shrink = s.top[f] == -INFINITY ? 0 : fast_exp(s.top[f] - most);
            for (int64_t i = 0; i < n; i++) {
                float p = fast_exp(s.logit[i * m + f] - most);
                s.logit[i * m + f] = p;
                total += p;
            }
            s.total[f] = s.total[f] * shrink + total;
            s.top[f] = most;
            if (shrink == 1) continue;
            for (int64_t c = 0; c < d; c++)
                s.sum[f * d + c] *= shrink;
        }
        gemm_view p = {s.logit, ST_F32, m, 1};
        for (int64_t f = 0; f < m; f += ATTEND_KEYS) {
            for (int64_t c = 0; c < d; c += ATTEND_DIM) {
                attend_product(s.blocks, gemm_transposed(gemm_at(p, 0, f)), gemm_at(v, j, c),
                               at_most(m - f, ATTEND_KEYS), at_most(d - c, ATTEND_DIM), n,
                               s.sum + f * d + c, d, 1);
            }
        }
    }
}

/* Adds what another thread summed. A thread without keys has tops of -inf. */
static void favor_join(const st_favor_args *a, favor_space s, favor_space other)
{
    for (int64_t f = 0; f < a->features; f++) {
        if (other.top[f] == -INFINITY) continue;
        float most = other.top[f] > s.top[f] ? other.top[f] : s.top[f];
        float mine = s.top[f] == -INFINITY ? 0 : fast_exp(s.top[f] - most);
        float theirs = fast_exp(other.top[f] - most);
        s.top[f] = most;
        s.total[f] = s.total[f] * mine + other.total[f] * theirs;
        float *to = s.sum + f * a->head_dim, *from = other.sum + f * a->head_dim;
        for (int64_t c = 0; c < a->head_dim; c++)
            to[c] = to[c] * mine + from[c] * theirs;
    }
}

/* Weights of one query instead of its logits; the denominator is returned. */
static float favor_weights(const st_favor_args *a, favor_space sums, float *p)
{
    float most = -INFINITY, total = 0;
#pragma omp simd reduction(max : most)
    for (int64_t f = 0; f < a->features; f++) {
        p[f] += sums.top[f];
        most = p[f] > most ? p[f] : most;
    }
#pragma omp simd reduction(+ : total)
    for (int64_t f = 0; f < a->features; f++) {
        p[f] = p[f] - most < -87.0f ? 0 : fast_exp(p[f] - most);
        total += p[f] * sums.total[f];
    }
    return total + (a->eps > 0 ? a->eps * (float)a->features * expf(-most) : 0);
}

/* Outputs of queries [lo, hi); o0: the head's first. */
static void favor_queries(const st_favor_args *a, favor_space s, favor_space sums, gemm_view q,
                          int64_t o0, st_span span)
{
    gemm_view p = {s.logit, ST_F32, a->features, 1}, sum = {sums.sum, ST_F32, a->head_dim, 1};
    for (int64_t t = span.lo; t < span.hi; t += ATTEND_Q) {
        float total[ATTEND_Q], *out = s.blocks.sum[0];
        int64_t n = at_most(span.hi - t, ATTEND_Q);
        favor_logits(a, s, gemm_at(q, t, 0), n);
        for (int64_t i = 0; i < n; i++)
            total[i] = favor_weights(a, sums, s.logit + i * a->features);
        for (int64_t c = 0; c < a->head_dim; c += ATTEND_DIM) {
            int64_t width = at_most(a->head_dim - c, ATTEND_DIM);
            attend_product(s.blocks, p, gemm_at(sum, 0, c), n, width, a->features, out, ATTEND_DIM,
                           0);
            for (int64_t i = 0; i < n; i++) {
                float buf[ATTEND_DIM], share = 1.0f / total[i];
                int64_t at = o0 + (t + i) * a->o_stride + c;
                float *o = block_out(&a->o, at, buf);
                for (int64_t x = 0; x < width; x++)
                    o[x] = out[i * ATTEND_DIM + x] * share;
                block_done(&a->o, at, width, o);
            }
        }
    }
}

static void kernel_favor(st_stream *stream, const st_favor_args *given)
{
    st_favor_args a = st_favor_resolve(given);
    int64_t cost = a.features * a.head_dim / LANES;
    int key_parts = st_parts(stream, a.kv_len * cost), parts = st_parts(stream, a.q_len * cost);
    if (!favor_fits(&a)) {
        st_stream_latch(stream, ST_EUNSUPPORTED, "favor", "too many features for a head this wide");
        return;
    }
    for (int64_t pair = 0; pair < a.batch * a.heads; pair++) {
        int64_t i = pair / a.heads, x = pair % a.heads * a.head_dim;
        gemm_view q = attend_view(a.q, i * a.q_step + x, a.q_stride);
        gemm_view k = attend_view(a.k, i * a.k_step + x, a.k_stride);
        gemm_view v = attend_view(a.v, i * a.v_step + x, a.v_stride);
        favor_space sums = favor_space_of(stream, &a, 0);
#pragma omp parallel for num_threads(key_parts) schedule(static)
        for (int t = 0; t < key_parts; t++) {
            favor_keys(&a, favor_space_of(stream, &a, t), k, v,
                       st_part(a.kv_len, ATTEND_Q, t, key_parts));
        }
        for (int t = 1; t < key_parts; t++)
            favor_join(&a, sums, favor_space_of(stream, &a, t));
#pragma omp parallel for num_threads(parts) schedule(static)
        for (int t = 0; t < parts; t++) {
            favor_queries(&a, favor_space_of(stream, &a, t), sums, q, i * a.o_step + x,
                          st_part(a.q_len, ATTEND_Q, t, parts));
        }
    }
}
