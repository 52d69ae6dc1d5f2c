/* Attention among rows of like hashes against its matrix of weights, with hashes, orders and
 * clusters written out in double precision; where it is exact; hard inputs; what is refused. */
/* SPDX-License-Identifier: MIT */
#include "attend_rig.h"

static const char *const devices[] = {"ref", "cpu"};
enum { DEVICES = 2, DIM = 8 };

/* ---- who sees whom, written out -------------------------------------------------------------- */

typedef struct {
    const char *text;
    int64_t n, hashes, q_cluster, k_cluster; /* of reformer: k_cluster 0 */
    float std;
} lsh_case;

typedef struct {
    double hash;
    int64_t row;
} hashed;

static int by_hash(const void *a, const void *b)
{
    const hashed *x = a, *y = b;
    if (x->hash != y->hash) return x->hash < y->hash ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

static double row_dot(const float *a, const float *b, int64_t n)
{
    double sum = 0;
    for (int64_t c = 0; c < n; c++)
        sum += (double)a[c] * (double)b[c];
    return sum;
}

static const float *row_or_zeros(const attend_rig *r, const float *x, int64_t i, int64_t h,
                                 int64_t t)
{
    static const float zeros[DIM];
    return t < r->q_len ? rig_row(r, x, r->q_len, i, h, t) : zeros;
}

static double longest(const attend_rig *r, const float *x, int64_t i, int64_t h)
{
    double most = 0;
    for (int64_t t = 0; t < r->q_len; t++) {
        const float *row = rig_row(r, x, r->q_len, i, h, t);
        most = fmax(most, row_dot(row, row, DIM));
    }
    return most;
}

/* Rows of q (or of k, `last` 0) by one hash w (DIM + 2): `total`, of which those from `sorted` on
 * are last. */
static void order_far(const attend_rig *r, const float *x, const float *w, int last, int64_t i,
                      int64_t h, int64_t sorted, int64_t total, hashed *to)
{
    double most = longest(r, r->q, i, h) + longest(r, r->k, i, h);
    for (int64_t t = 0; t < total; t++) {
        const float *row = row_or_zeros(r, x, i, h, t);
        double far = (double)(float)sqrt(most - row_dot(row, row, DIM));
        double hash = (double)(float)(row_dot(row, w, DIM) + (double)w[DIM + last] * far);
        to[t] = (hashed){t < sorted ? hash : (double)INFINITY, t};
    }
    qsort(to, (size_t)total, sizeof *to, by_hash);
}

/* Rows of q by the largest of the products with w (half, DIM) and with -w. */
static void order_angles(const attend_rig *r, const float *w, int64_t half, int64_t i, int64_t h,
                         int64_t total, hashed *to)
{
    for (int64_t t = 0; t < total; t++) {
        const float *row = row_or_zeros(r, r->q, i, h, t);
        double most = -INFINITY;
        to[t] = (hashed){0, t};
        for (int64_t b = 0; b < 2 * half; b++) {
            double dot = row_dot(row, w + b % half * DIM, DIM) * (b < half ? 1 : -1);
            if (dot > most) most = dot, to[t].hash = (double)b;
        }
    }
    qsort(to, (size_t)total, sizeof *to, by_hash);
}

/* seen (batch * heads, n, n): how often a query sees a key. */
typedef struct {
    int *seen;
    bool shared;
} sights;

static void see(const attend_rig *r, int *seen, const hashed *q, int64_t q_n, const hashed *k,
                int64_t k_n)
{
    for (int64_t a = 0; a < q_n; a++) {
        for (int64_t b = 0; b < k_n; b++) {
            if (q[a].row < r->q_len && k[b].row < r->q_len) seen[q[a].row * r->q_len + k[b].row]++;
        }
    }
}

static void see_smyrf(const attend_rig *r, const lsh_case *c, const float *w, int64_t i, int64_t h,
                      int *seen)
{
    int64_t clusters = (c->n + c->q_cluster - 1) / c->q_cluster;
    int64_t q_all = clusters * c->q_cluster, k_all = clusters * c->k_cluster;
    hashed *q = st_calloc(q_all, sizeof *q), *k = st_calloc(k_all, sizeof *k);
    assert_true(q && k);
    for (int64_t hash = 0; hash < c->hashes; hash++) {
        const float *at = w + hash * (DIM + 2);
        order_far(r, r->q, at, 1, i, h, q_all == k_all ? c->n : q_all, q_all, q);
        order_far(r, r->k, at, 0, i, h, c->n, k_all, k);
        for (int64_t x = 0; x < clusters; x++)
            see(r, seen, q + x * c->q_cluster, c->q_cluster, k + x * c->k_cluster, c->k_cluster);
    }
    free(q);
    free(k);
}

static void see_reformer(const attend_rig *r, const lsh_case *c, const float *w, int64_t i,
                         int64_t h, int *seen)
{
    int64_t size = c->q_cluster, half = (c->n + 2 * size - 1) / (2 * size), all = 2 * half * size;
    hashed *q = st_calloc(all, sizeof *q);
    assert_non_null(q);
    for (int64_t hash = 0; hash < c->hashes; hash++) {
        order_angles(r, w + hash * half * DIM, half, i, h, all, q);
        for (int64_t x = 0; x < 2 * half; x++) {
            int64_t before = (x + 2 * half - 1) % (2 * half);
            see(r, seen, q + x * size, size, q + x * size, size);
            see(r, seen, q + x * size, size, q + before * size, size);
        }
    }
    free(q);
}

static double weight_seen(const attend_rig *r, void *ctx, int64_t i, int64_t h, int64_t t,
                          int64_t j)
{
    const sights *s = ctx;
    int count = s->seen[((i * r->heads + h) * r->q_len + t) * r->q_len + j];
    if (!count) return (double)-INFINITY;
    if (!s->shared) return log(count) + (double)r->scale * rig_dot(r, i, h, t, j);
    const float *q = rig_row(r, r->q, r->q_len, i, h, t), *k = rig_row(r, r->q, r->q_len, i, h, j);
    double length = fmax(sqrt(row_dot(k, k, DIM)), 1e-12);
    return log(count) + (t == j ? -5e4 : (double)r->scale * row_dot(q, k, DIM) / length);
}

/* ---- the cases ------------------------------------------------------------------------------- */

static void draw(float *w, int64_t rows, int64_t cols)
{
    st_err e;
    st_stream *q;
    assert_ok(st_stream_open(&q, "ref", 1, &e), &e);
    st_directions_args a = {.rows = rows, .cols = cols, .seed = 5, .stream = 3, .std = 1};
    a.w = st_view1(w, ST_F32, rows * cols);
    st_stream_ops(q)->directions(q, &a);
    st_stream_close(q);
}

/* r's outputs by c on a device. */
static void check(attend_rig *r, const lsh_case *c, const char *device, st_dtype t)
{
    static float w[1 << 14];
    st_err e;
    st_attention m;
    char text[ST_SPEC_TEXT];
    bool shared = c->k_cluster == 0;
    sights s = {.shared = shared};
    s.seen = st_calloc(r->batch * r->heads * c->n * c->n, sizeof *s.seen);
    assert_non_null(s.seen);
    r->layer = 3;
    snprintf(text, sizeof text, "%s,seed=5", c->text);
    assert_ok(st_attention_parse(&m, text, &e), &e);
    rig_run_as(r, &m, device, t); /* rounds the inputs */
    int64_t half = (c->n + 2 * c->q_cluster - 1) / (2 * c->q_cluster);
    draw(w, c->hashes * (shared ? half : 1), shared ? DIM : DIM + 2);
    for (int64_t pair = 0; pair < r->batch * r->heads; pair++) {
        int64_t i = pair / r->heads, h = pair % r->heads;
        int *seen = s.seen + pair * c->n * c->n;
        if (shared)
            see_reformer(r, c, w, i, h, seen);
        else
            see_smyrf(r, c, w, i, h, seen);
    }
    double off = rig_error(r, weight_seen, &s), exponent = 4 + (double)(c->std * c->std) * DIM;
    double bound = t == ST_F32 ? 2e-6 * exponent : 1e-2;
    if (!(off < bound)) {
        fail_msg("%s, %d tokens, std %g, on %s: off by %g, at most %g", c->text, (int)c->n,
                 (double)c->std, device, off, bound);
    }
    free(s.seen);
}

static const lsh_case cases[] = {
    {"smyrf:hashes=1,q_cluster=16", 130, 1, 16, 16, 1},
    {"smyrf:hashes=2,q_cluster=49", 200, 2, 49, 49, 1},
    {"smyrf:hashes=4,q_cluster=12", 97, 4, 12, 12, 1},
    {"smyrf:hashes=3,q_cluster=9,k_cluster=8", 37, 3, 9, 8, 1},
    {"smyrf:hashes=2,q_cluster=1", 5, 2, 1, 1, 1},
    {"smyrf:hashes=2,q_cluster=7", 1, 2, 7, 7, 1},
    {"smyrf:hashes=2,q_cluster=240", 300, 2, 240, 240, 1},
    {"smyrf:hashes=2", 200, 2, 3, 3, 1},
    {"smyrf:q_cluster=20", 150, 2, 20, 20, 30},
    {"smyrf:q_cluster=20", 150, 2, 20, 20, 0}, /* all rows alike */
    {"reformer:hashes=1,bucket=16", 130, 1, 16, 0, 1},
    {"reformer:hashes=2,bucket=49", 200, 2, 49, 0, 1},
    {"reformer:hashes=4,bucket=12", 97, 4, 12, 0, 1},
    {"reformer:hashes=2,bucket=1", 5, 2, 1, 0, 1},
    {"reformer:hashes=2,bucket=7", 1, 2, 7, 0, 1},
    {"reformer:hashes=2,bucket=120", 300, 2, 120, 0, 1},
    {"reformer:hashes=2", 200, 2, 3, 0, 1},
    {"reformer:bucket=20", 150, 2, 20, 0, 30},
    {"reformer:bucket=20", 150, 2, 20, 0, 0},
};
enum { CASES = sizeof cases / sizeof *cases };

static void weights_are_those_of_clusters(void **state)
{
    (void)state;
    for (int x = 0; x < CASES; x++) {
        for (int way = 0; way < 2 * DEVICES; way++) {
            const lsh_case *c = &cases[x];
            attend_rig r = rig_open(2, 2, DIM, c->n, c->n, c->std, (uint64_t)c->n);
            check(&r, c, devices[way % DEVICES], way < DEVICES ? ST_F32 : ST_BF16);
            rig_close(&r);
        }
    }
}

/* ---- where they are exact -------------------------------------------------------------------- */

static double weight_full(const attend_rig *r, void *ctx, int64_t i, int64_t h, int64_t t,
                          int64_t j)
{
    (void)ctx;
    return (double)r->scale * rig_dot(r, i, h, t, j);
}

static double weight_others(const attend_rig *r, void *ctx, int64_t i, int64_t h, int64_t t,
                            int64_t j)
{
    const float *k = rig_row(r, r->q, r->q_len, i, h, j);
    (void)ctx;
    if (t == j) return (double)-INFINITY;
    return (double)r->scale * row_dot(rig_row(r, r->q, r->q_len, i, h, t), k, DIM) /
           sqrt(row_dot(k, k, DIM));
}

static void one_cluster_is_full_attention(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t keys;
        rig_weight *weight;
    } c[] = {
        {"smyrf:q_cluster=75", 75, weight_full},
        {"smyrf:hashes=4,q_cluster=1000000000", 75, weight_full},
        {"smyrf:q_cluster=80,k_cluster=31", 31, weight_full},
        {"reformer:hashes=3,bucket=38", 75, weight_others},
        {"reformer:bucket=1000000000", 75, weight_others},
    };
    for (size_t i = 0; i < DEVICES * sizeof c / sizeof *c; i++) {
        const char *device = devices[i % DEVICES];
        attend_rig r = rig_open(1, 2, DIM, 75, c[i / DEVICES].keys, 1, 1);
        rig_run(&r, c[i / DEVICES].text, device);
        double off = rig_error(&r, c[i / DEVICES].weight, NULL);
        if (!(off < 2e-6)) fail_msg("%s on %s: off by %g", c[i / DEVICES].text, device, off);
        rig_close(&r);
    }
}

static void draws_have_numbers(void **state)
{
    (void)state;
    static const char *const texts[] = {"smyrf", "reformer"};
    for (int x = 0; x < 2; x++) {
        attend_rig r[4];
        for (int i = 0; i < 4; i++) {
            char text[64];
            r[i] = rig_open(1, 1, DIM, 200, 200, 1, 4);
            r[i].layer = i == 2;
            snprintf(text, sizeof text, "%s:seed=%d", texts[x], i == 3);
            rig_run(&r[i], text, "cpu");
            bool same = memcmp(r[0].o, r[i].o, 200 * DIM * sizeof *r[i].o) == 0;
            assert_true(same == (i < 2));
        }
        for (int i = 0; i < 4; i++)
            rig_close(&r[i]);
    }
}

/* ---- hard inputs ----------------------------------------------------------------------------- */

/* Threads decide nothing; rows that are no numbers spoil those that see them alone, the same ones
 * on ref and cpu, and keep nothing from ending. */
static void no_numbers_are_no_danger(void **state)
{
    (void)state;
    static const char *const texts[] = {"smyrf:q_cluster=12", "reformer:bucket=6"};
    static const float bad[] = {0, NAN, -NAN, INFINITY, -INFINITY, 3e38f};
    enum { N = 300, RUNS = 4, BAD = sizeof bad / sizeof *bad };
    for (int x = 0; x < 2 * BAD; x++) {
        attend_rig r[RUNS]; /* ref; cpu, of one thread to three */
        int64_t finite = 0;
        float with = bad[x / 2];
        for (int run = 0; run < RUNS; run++) {
            r[run] = rig_open(1, 2, DIM, N, N, 1, 4);
            r[run].threads = run;
            for (int64_t i = 0; i < 2 * DIM && with != 0; i++)
                r[run].q[i] = r[run].k[i + 160] = i % 3 ? with : -with;
            rig_run(&r[run], texts[x % 2], run ? "cpu" : "ref");
            if (run > 1) assert_memory_equal(r[1].o, r[run].o, 2 * N * DIM * sizeof *r[1].o);
        }
        for (int64_t i = 0; i < 2 * N * DIM; i++) {
            float ref = r[0].o[i], cpu = r[1].o[i];
            finite += isfinite(cpu) ? 1 : 0;
            if (with != 0 && !isnan(with)) continue; /* scores overflow on cpu alone */
            assert_true(isfinite(ref) ? fabsf(ref - cpu) < 1e-5f : !isfinite(cpu));
        }
        assert_true(finite >= N * DIM);
        assert_true(with != 0 || finite == 2 * N * DIM);
        for (int run = 0; run < RUNS; run++)
            rig_close(&r[run]);
    }
}

/* ---- what is refused ------------------------------------------------------------------------- */

static void misfits_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t q_len, kv_len;
        int causal;
        st_status code;
        const char *says;
    } c[] = {
        {"smyrf", 100, 100, 1, ST_EUNSUPPORTED, "later ones decide"},
        {"reformer", 100, 100, 1, ST_EUNSUPPORTED, "later ones decide"},
        {"smyrf:hashes=0", 100, 100, 0, ST_ESHAPE, "hashes=0; legal: 1..64"},
        {"smyrf:hashes=65", 100, 100, 0, ST_ESHAPE, "hashes=65; legal: 1..64"},
        {"smyrf:q_cluster=-1", 100, 100, 0, ST_ESHAPE, "q_cluster=-1"},
        {"smyrf:k_cluster=-1", 100, 100, 0, ST_ESHAPE, "k_cluster=-1"},
        {"smyrf:seed=-1", 100, 100, 0, ST_ESHAPE, "seed=-1"},
        {"smyrf:q_cluster=10,k_cluster=20", 100, 100, 0, ST_ESHAPE,
         "q_cluster=10 cuts 100 queries into 10 clusters, k_cluster=20 100 keys into 5"},
        {"smyrf:q_cluster=10", 100, 51, 0, ST_ESHAPE, "must be as many"},
        {"smyrf:q_cluster=10", 100, 55, 0, ST_OK, NULL},
        {"reformer:bucket=-2", 100, 100, 0, ST_ESHAPE, "bucket=-2"},
        {"reformer:hashes=0", 100, 100, 0, ST_ESHAPE, "hashes=0"},
        {"reformer", 100, 99, 0, ST_ESHAPE, "100 queries and 99 keys"},
    };
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        st_err e = {0};
        st_attention m;
        st_attention_shape s = {
            .head_dim = DIM, .q_len = c[i].q_len, .kv_len = c[i].kv_len, .causal = c[i].causal};
        assert_ok(st_attention_parse(&m, c[i].text, &e), &e);
        assert_int_equal(st_attention_check(&m, &s, &e), c[i].code);
        if (c[i].says) assert_says(&e, c[i].says);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_are_those_of_clusters),
        cmocka_unit_test(one_cluster_is_full_attention),
        cmocka_unit_test(draws_have_numbers),
        cmocka_unit_test(no_numbers_are_no_danger),
        cmocka_unit_test(misfits_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
