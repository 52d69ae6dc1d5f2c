/* The parity harness: operands in guarded memory, two runs, comparison. */
/* Long: one harness; cases, operands, runs and comparison share its state. */
/* SPDX-License-Identifier: MIT */
#include "parity.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Each operand of each run (ref, the tested backend twice, and the operands as they were) lies in
 * its own slot between inaccessible pages. */
#define SLOT_BYTES  ((size_t)4 << 20)
#define GUARD_BYTES ((size_t)1 << 16)
enum { REF, ONE, TWO, PRISTINE, RUNS, ARGS_BYTES = 2048, DRAWN = 1024 };
static const unsigned char CANARY = 0xA7;
static const char *program = "parity_test";

void parity_program(const char *path)
{
    program = path;
}

/* ---- describing cases ------------------------------------------------------------------------ */

int64_t parity_pick(const parity_case *c, int i, int64_t n)
{
    return (int64_t)(st_op_u32(0x9a417, st_hash_name(c->op), c->variant * 64 + i) % (uint64_t)n);
}

int64_t parity_dim(const parity_case *c, int i, int64_t limit)
{
    static const int dims[] = {1,   2,   3,   4,   5,   7,    8,    9,   11,  13,  15,
                               16,  17,  23,  31,  32,  33,   47,   48,  63,  64,  65,
                               96,  97,  127, 128, 129, 191,  192,  255, 256, 257, 384,
                               509, 511, 512, 513, 768, 1021, 1024, 1025};
    int count = 0, all = sizeof dims / sizeof *dims;
    while (count < all && dims[count] <= limit)
        count++;
    return dims[parity_pick(c, i, count)];
}

int64_t parity_rows(parity_case *c, const st_heads *h, int64_t len, st_strided *t)
{
    int64_t width = h->heads * h->head_dim;
    if (c->variant % 2) return h->batch * len * width;
    c->gaps = true;
    t->stride = 3 * width;
    t->step = (len + 3) * t->stride;
    return (h->batch - 1) * t->step + (len - 1) * t->stride + width;
}

static parity_operand *parity_declare(parity_case *c, const st_tensor *slot, st_dtype t, int64_t n)
{
    if (c->operands == PARITY_OPERANDS) abort();
    parity_operand *o = &c->operand[c->operands++];
    *o = (parity_operand){.at = (size_t)((const char *)slot - c->args), .shares = -1};
    o->shape = st_view1(NULL, t, n);
    return o;
}

void parity_in(parity_case *c, st_tensor *slot, st_dtype t, int64_t n, double std)
{
    parity_operand *o = parity_declare(c, slot, t, n);
    o->lo = o->hi = std;
}

void parity_in_range(parity_case *c, st_tensor *slot, st_dtype t, int64_t n, double lo, double hi)
{
    parity_operand *o = parity_declare(c, slot, t, n);
    o->lo = lo;
    o->hi = hi;
}

void parity_in_grid(parity_case *c, st_tensor *slot, st_dtype t, int64_t n)
{
    parity_declare(c, slot, t, n)->grid = true;
}

void parity_in_blocks(parity_case *c, st_tensor *slot, st_dtype t, int64_t n, int64_t rows,
                      int64_t cols)
{
    parity_operand *o = parity_declare(c, slot, t, n);
    o->lo = o->hi = 1;
    o->rows = rows;
    o->cols = cols;
}

void parity_ids(parity_case *c, st_tensor *slot, int64_t n, int64_t lo, int64_t hi)
{
    parity_in_range(c, slot, ST_I32, n, (double)lo, (double)hi);
}

void parity_orders(parity_case *c, st_tensor *slot, int64_t runs, int64_t total)
{
    parity_declare(c, slot, ST_I32, runs * total)->order = total;
}

void parity_out(parity_case *c, st_tensor *slot, st_dtype t, int64_t n, double tol)
{
    parity_operand *o = parity_declare(c, slot, t, n);
    o->role = PARITY_OUT;
    o->tol = tol;
}

void parity_update(parity_case *c, st_tensor *slot, st_dtype t, int64_t n, double std, double tol)
{
    parity_operand *o = parity_declare(c, slot, t, n);
    o->role = PARITY_UPDATE;
    o->lo = o->hi = std;
    o->tol = tol;
}

void parity_work(parity_case *c, st_tensor *slot, int64_t n)
{
    parity_scratch(c, slot, ST_F32, n);
}

void parity_scratch(parity_case *c, st_tensor *slot, st_dtype t, int64_t n)
{
    parity_declare(c, slot, t, n)->role = PARITY_WORK;
}

void parity_inplace(parity_case *c, st_tensor *slot, const st_tensor *of, double tol)
{
    for (int i = 0; i < c->operands; i++) {
        if (c->operand[i].at != (size_t)((const char *)of - c->args)) continue;
        c->operand[i].role = PARITY_UPDATE;
        c->operand[i].tol = tol;
        parity_operand *o =
            parity_declare(c, slot, c->operand[i].shape.dtype, c->operand[i].shape.dim[0]);
        o->shares = i;
        return;
    }
    abort();
}

/* ---- operands in memory ---------------------------------------------------------------------- */

static char *parity_slots(void)
{
    static char *base;
    if (base) return base;
    size_t stride = SLOT_BYTES + GUARD_BYTES, all = stride * RUNS * PARITY_OPERANDS + GUARD_BYTES;
    base = mmap(NULL, all, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) abort();
    for (size_t i = 0; i < RUNS * PARITY_OPERANDS; i++) {
        if (mprotect(base + GUARD_BYTES + i * stride, SLOT_BYTES, PROT_READ | PROT_WRITE)) abort();
    }
    return base;
}

/* Where operand `i` of a run lies: against the guard page behind it (so with no alignment beyond
 * its element's), or, on odd seeds, aligned at the start of its slot. Canaries fill 64 bytes
 * around. */
static char *parity_place(const parity_case *c, int run, int i)
{
    size_t stride = SLOT_BYTES + GUARD_BYTES, bytes = st_bytes(c->operand[i].shape);
    char *slot = parity_slots() + GUARD_BYTES + (size_t)(run * PARITY_OPERANDS + i) * stride;
    if (bytes + 128 > SLOT_BYTES) {
        fprintf(stderr, "%s:%d: operand %d has %zu bytes\n", c->op, c->variant, i, bytes);
        abort();
    }
    return c->seed % 2 ? slot + 64 : slot + SLOT_BYTES - bytes;
}

/* Number `at` of permutations: r -> step r + first modulo their size, of its own step and first. */
static int32_t parity_place_in(uint64_t seed, int64_t at, int64_t size)
{
    int64_t run = at / size, step = 1 + st_op_u32(seed, 8, run) % size, a = step, b = size;
    while (b) {
        int64_t rest = a % b;
        a = b, b = rest;
    }
    step = a == 1 ? step : 1;
    return (int32_t)((at % size * step + st_op_u32(seed, 9, run) % size) % size);
}

/* DRAWN normal numbers for a stretch of a float operand: those of one table, which are drawn once,
 * in an order that belongs to the stretch. */
static void parity_normals(float *value, uint64_t seed, int64_t at, float std)
{
    enum { TABLE = 1 << 16 };
    static float table[TABLE];
    if (table[0] == 0.0f) st_normal_fill(table, TABLE, 0, 1, 0x9a417, 0);
    uint32_t first = st_op_u32(seed, 5, at), step = st_op_u32(seed, 6, at) | 1;
    for (uint32_t j = 0; j < DRAWN; j++)
        value[j] = std * table[(first + j * step) % TABLE];
}

/* DRAWN numbers of whole blocks from element `at` on. */
static void parity_grid(float *value, uint64_t seed, int64_t at)
{
    for (int64_t j = 0; j < DRAWN; j += 4) {
        st_philox_block b = st_philox(seed, 10, (uint64_t)(at + j) / 4);
        int64_t block = (at + j) / 32, most = st_op_u32(seed, 11, block) % 32;
        int power = (int)(st_op_u32(seed, 12, block) % 4) - 9;
        for (int64_t k = 0; k < 4; k++) {
            int q = (at + j + k) % 32 == most ? 127 : (int)(b.v[k] % 255) - 127;
            value[j + k] = ldexpf((float)q, power);
        }
    }
}

/* Element `at` + j of operand `i` for j < len <= DRAWN, in its dtype. */
static void parity_draw(const parity_case *c, int i, int64_t at, int64_t len, char *to)
{
    float value[DRAWN];
    int32_t id[DRAWN];
    const parity_operand *o = &c->operand[i];
    uint64_t seed = c->seed * 1000 + (uint64_t)i;
    bool ids = o->shape.dtype == ST_I32, normal = o->lo == o->hi && !ids;
    if (o->grid)
        parity_grid(value, seed, at);
    else if (normal)
        parity_normals(value, seed, at, (float)o->hi);
    for (int64_t j = 0; j < len && !normal; j += 4) {
        st_philox_block b = st_philox(seed, 7, (uint64_t)(at + j) / 4);
        for (int k = 0; k < 4; k++) {
            double u = o->lo + b.v[k] * 0x1p-32 * (o->hi - o->lo);
            if (!ids)
                value[j + k] = (float)u;
            else if (o->order)
                id[j + k] = parity_place_in(seed, at + j + k, o->order);
            else
                id[j + k] = (int32_t)floor(u);
        }
    }
    if (ids)
        memcpy(to, id, (size_t)len * sizeof *id);
    else
        st_convert(to, st_dtype_plain(o->shape.dtype), value, ST_F32, len);
}

/* Matrices of blocks, packed. */
static void parity_pack(const parity_operand *o, char *data)
{
    size_t bytes = st_bytes(o->shape), each = st_dtype_bytes(o->shape.dtype, o->rows * o->cols);
    char *plain = malloc(bytes);
    if (!plain) abort();
    memcpy(plain, data, bytes);
    for (size_t at = 0; at + each <= bytes; at += each)
        st_blocks_pack(data + at, plain + at, o->shape.dtype, o->rows, o->cols);
    free(plain);
}

/* Begins as NaN. */
static bool parity_blank(const parity_operand *o)
{
    return o->role == PARITY_OUT || o->role == PARITY_WORK;
}

/* Operands as every run finds them. */
static void parity_prepare(const parity_case *c)
{
    for (int i = 0; i < c->operands; i++) {
        const parity_operand *o = &c->operand[i];
        char *data = parity_place(c, PRISTINE, i);
        size_t bytes = st_bytes(o->shape);
        int64_t n = o->shape.dim[0];
        memset(data - 64, CANARY, 64);
        if (c->seed % 2) memset(data + bytes, CANARY, 64);
        for (size_t b = 0; parity_blank(o) && b < bytes; b += 2) {
            memcpy(data + b, "\xad\x7f", 2); /* NaN in both dtypes */
        }
        for (int64_t at = 0; !parity_blank(o) && at < n; at += DRAWN) {
            parity_draw(c, i, at, n - at < DRAWN ? n - at : DRAWN,
                        data + st_dtype_bytes(o->shape.dtype, at));
        }
        if (st_dtype_plain(o->shape.dtype) != o->shape.dtype) parity_pack(o, data);
    }
}

static bool parity_canary_ok(const parity_case *c, int i, const char *data)
{
    size_t bytes = st_bytes(c->operand[i].shape);
    for (int j = 1; j <= 64; j++) {
        if ((unsigned char)data[-j] != CANARY) return false;
        if (c->seed % 2 && (unsigned char)data[bytes + (size_t)j - 1] != CANARY) return false;
    }
    return true;
}

/* Operand `i` with its canaries, as bytes. */
static st_tensor parity_bytes(const parity_case *c, int i, char *data)
{
    int64_t behind = c->seed % 2 ? 64 : 0;
    return st_view1(data - 64, ST_U8, (int64_t)st_bytes(c->operand[i].shape) + 64 + behind);
}

/* Where operand `i` lies on a device with memory of its own: at the end of an allocation, so that a
 * checker of memory sees what is read behind it, or, on odd seeds, aligned. */
static char *parity_send(const parity_case *c, int i, st_stream *q, st_arena *a, char *data)
{
    st_tensor bytes = parity_bytes(c, i, data);
    st_err e;
    if (st_device_arena(q, st_bytes(bytes), a, &e)) {
        fprintf(stderr, "%s\n", e.msg);
        abort();
    }
    char *from = bytes.data, *to = c->seed % 2 ? a->base : a->base + a->cap - st_bytes(bytes);
    bytes.data = to;
    st_upload(q, bytes, from);
    return to + 64;
}

/* Sets the operands of a run, calls, checks what must not change. NULL or what went wrong. */
static const char *parity_execute(const parity_case *c, int run, parity_call *call, st_stream *q)
{
    _Alignas(64) char args[ARGS_BYTES];
    st_arena room[PARITY_OPERANDS] = {0};
    char *there[PARITY_OPERANDS];
    memcpy(args, c->args, ARGS_BYTES);
    for (int i = 0; i < c->operands; i++) {
        const parity_operand *o = &c->operand[i];
        st_tensor t = o->shape;
        char *data = parity_place(c, run, i);
        if (o->shares < 0) {
            st_tensor bytes = parity_bytes(c, i, data);
            memcpy(bytes.data, parity_place(c, PRISTINE, i) - 64, st_bytes(bytes));
            there[i] = st_stream_on_host(q) ? data : parity_send(c, i, q, &room[i], data);
        }
        t.data = there[o->shares < 0 ? i : o->shares];
        memcpy(args + o->at, &t, sizeof t);
    }
    call(q, args);
    for (int i = 0; i < c->operands; i++) {
        st_tensor bytes = parity_bytes(c, i, parity_place(c, run, i));
        void *to = bytes.data;
        if (!room[i].base) continue;
        bytes.data = there[i] - 64;
        st_download(q, to, bytes);
        st_device_arena_close(q, &room[i]);
    }
    st_err e;
    if (st_stream_sync(q, &e)) {
        fprintf(stderr, "%s: %s\n", c->op, e.msg);
        return "a failure was latched";
    }
    for (int i = 0; i < c->operands; i++) {
        const parity_operand *o = &c->operand[i];
        if (o->shares >= 0) continue;
        const char *data = parity_place(c, run, i);
        if (!parity_canary_ok(c, i, data)) return "wrote outside an operand";
        if (o->role == PARITY_IN &&
            memcmp(data, parity_place(c, PRISTINE, i), st_bytes(o->shape))) {
            return "changed an input";
        }
    }
    return NULL;
}

/* ---- comparing ------------------------------------------------------------------------------- */

static double parity_value(const char *data, st_dtype t, int64_t i)
{
    float f;
    uint16_t h;
    int32_t id;
    if (t == ST_I32) {
        memcpy(&id, data + 4 * i, 4);
        return (double)id;
    }
    if (t == ST_F32)
        memcpy(&f, data + 4 * i, 4);
    else
        memcpy(&h, data + 2 * i, 2), f = st_bf16_to_f32(h);
    return (double)f;
}

/* True if element `i` of output `o` is as it should be; *want and *got are the values. */
static bool parity_same(const parity_operand *o, const char *ref, const char *cpu, int64_t i,
                        double *want, double *got)
{
    size_t size = st_dtype_size(o->shape.dtype);
    *want = parity_value(ref, o->shape.dtype, i);
    *got = parity_value(cpu, o->shape.dtype, i);
    if (*want == *got || memcmp(ref + (size_t)i * size, cpu + (size_t)i * size, size) == 0)
        return true;
    if (o->shape.dtype == ST_I32) return false;
    /* one ulp of the result: both round, from values that differ by tol */
    double ulp = o->shape.dtype == ST_F32 ? 0x1p-22 : 0x1p-7;
    return fabs(*want - *got) <= o->tol + ulp * fabs(*want);
}

/* Compares the tested backend with ref, and its two runs bit by bit. */
static bool parity_compare(const parity_case *c, char *why, size_t room)
{
    for (int i = 0; i < c->operands; i++) {
        const parity_operand *o = &c->operand[i];
        if (o->role == PARITY_IN || o->role == PARITY_WORK || o->shares >= 0) continue;
        const char *ref = parity_place(c, REF, i), *one = parity_place(c, ONE, i);
        if (memcmp(one, parity_place(c, TWO, i), st_bytes(o->shape)) != 0) {
            snprintf(why, room, "operand %d: two calls disagree", i);
            return false;
        }
        if (memcmp(ref, one, st_bytes(o->shape)) == 0) continue;
        for (int64_t j = 0; j < o->shape.dim[0]; j++) {
            double want, got;
            if (parity_same(o, ref, one, j, &want, &got)) continue;
            snprintf(why, room, "operand %d[%lld of %lld]: got %.9g, want %.9g, bound %.2g + ulp",
                     i, (long long)j, (long long)o->shape.dim[0], got, want, o->tol);
            return false;
        }
    }
    return true;
}

/* The dry stream's bytes are the operands': read once, written once. */
static bool parity_dry_ok(const parity_case *c, const parity_op *op, st_stream *dry, char *why,
                          size_t room)
{
    int64_t bytes = 0;
    st_cost before = st_stream_cost(dry);
    _Alignas(64) char args[ARGS_BYTES];
    memcpy(args, c->args, ARGS_BYTES);
    for (int i = 0; i < c->operands; i++) {
        const parity_operand *o = &c->operand[i];
        st_tensor t = o->shape;
        t.data = parity_slots(); /* inaccessible */
        memcpy(args + o->at, &t, sizeof t);
        if (o->shares < 0 && o->role != PARITY_WORK)
            bytes += (int64_t)st_bytes(t) * (o->role == PARITY_UPDATE ? 2 : 1);
    }
    op->call(dry, args);
    st_cost cost = st_stream_cost(dry);
    if (cost.launches == before.launches + 1 && (c->gaps || cost.bytes - before.bytes == bytes)) {
        return true;
    }
    snprintf(why, room, "dry stream: %lld bytes, the operands are %lld",
             (long long)(cost.bytes - before.bytes), (long long)bytes);
    return false;
}

/* ---- runs ------------------------------------------------------------------------------------ */

/* A device and, where it is the cpu, what of it is left. */
typedef struct {
    const char *device, *forbid;
    int threads;
    st_stream *cpu, *dry;
} parity_config;

enum { PEELS = 5, CONFIGS = PEELS + 2 };

static st_stream *parity_open(const char *device, const parity_config *k)
{
    st_err e;
    st_stream *q;
    setenv("ST_CPU_FORBID", k->forbid, 1);
    if (st_stream_open(&q, device, k->threads, &e)) {
        fprintf(stderr, "%s\n", e.msg);
        abort();
    }
    return q;
}

static parity_config parity_config_open(const char *device, const char *forbid, int threads)
{
    parity_config k = {.device = device, .forbid = forbid, .threads = threads};
    st_err e;
    k.cpu = parity_open(device, &k);
    if (st_stream_dry(&k.dry, k.cpu, &e)) abort();
    return k;
}

static void parity_config_close(parity_config *k)
{
    st_stream_close(k->cpu);
    st_stream_close(k->dry);
}

/* Every peel that makes a difference on this machine: the best with 1, 2 and 3 threads, others with
 * 2, as what is shared among threads does not depend on the peel. In a sanitized build the last
 * alone, with 3: only its kernels are watched there (CMakeLists.txt), the others are as they were.
 */
static int parity_configs(const char *device, parity_config k[CONFIGS])
{
    static const char *const peels[PEELS] = {"none", "amx", "amx,avx512bf16,avx512vnni", "avx512",
                                             "avx512,avx2"};
    int count = 0;
    if (strcmp(device, "cpu") != 0) {
        k[0] = parity_config_open(device, device, 1);
        return 1;
    }
#ifdef __SANITIZE_ADDRESS__
    k[0] = parity_config_open(device, peels[PEELS - 1], 3);
    return 1;
#endif
    for (int peel = 0; peel < PEELS; peel++) {
        for (int threads = peel ? 2 : 1; threads <= (peel ? 2 : 3); threads++) {
            k[count] = parity_config_open(device, peels[peel], threads);
            bool seen = false;
            for (int i = 0; i < count; i++) {
                const char *was = st_stream_describe(k[i].cpu);
                seen |= strcmp(was, st_stream_describe(k[count].cpu)) == 0;
            }
            if (seen)
                parity_config_close(&k[count]);
            else
                count++;
        }
    }
    return count;
}

/* One variant, dtype and seed; -1: there is no such variant, else the number of failures. */
static int parity_one(const parity_op *op, int variant, st_dtype t, uint64_t seed, st_stream *ref,
                      const parity_config *k, int configs)
{
    _Alignas(64) char args[ARGS_BYTES] = {0};
    int failures = 0;
    if (op->args_size > ARGS_BYTES) abort();
    parity_case c = {.op = op->op, .variant = variant, .dtype = t, .seed = seed, .args = args};
    c.gpu = strcmp(k[0].device, "cpu") != 0;
    if (!op->describe(&c)) return -1;
    parity_prepare(&c);
    const char *ref_fault = parity_execute(&c, REF, op->call, ref);
    for (int i = 0; i < configs; i++) {
        char why[256] = "";
        const char *fault = ref_fault;
        if (!op->there(k[i].cpu)) continue;
        if (!fault) fault = parity_execute(&c, ONE, op->call, k[i].cpu);
        if (!fault) fault = parity_execute(&c, TWO, op->call, k[i].cpu);
        if (fault)
            snprintf(why, sizeof why, "%s", fault);
        else if (parity_compare(&c, why, sizeof why))
            parity_dry_ok(&c, op, k[i].dry, why, sizeof why);
        if (!why[0]) continue;
        failures++;
        fprintf(stderr, "%s: %s\n  rerun: %s %s:%d:%s:%llu:%s:%d\n", op->op, why, program, op->op,
                variant, st_dtype_name(t), (unsigned long long)seed, k[i].forbid, k[i].threads);
    }
    return failures;
}

/* Every variant is seen in both dtypes, aligned and not: four cases. A sanitized build takes two of
 * them, by turns aligned float32 with unaligned bfloat16 and the other way round. */
#ifdef __SANITIZE_ADDRESS__
enum { PARITY_HALF = 1 };
#else
enum { PARITY_HALF = 0 };
#endif

int parity_run(const parity_op *op, const char *device, int every)
{
    parity_config k[CONFIGS];
    int configs = parity_configs(device, k), failures = 0;
    st_stream *ref = parity_open("ref", &k[0]);
    for (int v = 0, found = 0; found >= 0 && failures < 5; v += every) {
        if (PARITY_HALF && v % 2 != v / 2 % 2) continue;
        for (uint64_t seed = 1; seed <= 2 && found >= 0; seed++) {
            st_dtype t = (v + (int)seed) % 2 ? ST_F32 : ST_BF16;
            found = parity_one(op, v / 2, t, seed, ref, k, configs);
            if (found > 0) failures += found;
        }
    }
    for (int i = 0; i < configs; i++)
        parity_config_close(&k[i]);
    st_stream_close(ref);
    return failures;
}

int parity_rerun(const parity_op *ops, int count, const char *text)
{
    char name[32], dtype[16], forbid[64];
    int variant, threads;
    unsigned long long seed;
    st_dtype t;
    if (sscanf(text, "%31[^:]:%d:%15[^:]:%llu:%63[^:]:%d", name, &variant, dtype, &seed, forbid,
               &threads) != 6 ||
        !st_dtype_parse(dtype, &t)) {
        return -1;
    }
    for (int i = 0; i < count; i++) {
        if (strcmp(ops[i].op, name) != 0) continue;
        bool other = strcmp(forbid, "cuda") == 0;
        parity_config k = parity_config_open(other ? forbid : "cpu", forbid, threads);
        st_stream *ref = parity_open("ref", &k);
        printf("%s: %s\n", text, st_stream_describe(k.cpu));
        int found = parity_one(&ops[i], variant, t, seed, ref, &k, 1);
        parity_config_close(&k);
        st_stream_close(ref);
        return found;
    }
    return -1;
}
