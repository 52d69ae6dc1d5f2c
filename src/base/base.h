/* base: what every other room stands on: status and errors, arenas, random numbers, JSON,
 * spelling suggestions, and the sinks through which the library speaks (it never prints).
 *
 * Nothing here is specific to transformers. Thread-safe unless a comment says otherwise. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_BASE_H
#define ST_BASE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- status: an error is a value with a place and a sentence --------------------------------- */

typedef enum {
    ST_OK,
    ST_EARG,    /* the caller (in the end: the user) asked for something illegal */
    ST_ESHAPE,  /* shapes or knobs that do not fit together */
    ST_EFORMAT, /* a file's content is wrong: truncated, corrupt, hostile, of another kind */
    ST_EIO,     /* the operating system refused: missing file, full disk */
    ST_ENOMEM,
    ST_EDEVICE,      /* a backend or its library failed */
    ST_ECOMM,        /* another process failed or did not answer */
    ST_EUNSUPPORTED, /* legal, but not in this build or on this machine */
    ST_EINTR         /* the user pressed Ctrl-C; what could be saved was saved */
} st_status;

typedef struct {
    st_status code;
    int line;
    const char *file;
    char msg[512]; /* "THING: FOUND, EXPECTED; WHAT TO DO", no newline */
} st_err;

/* Fills `e` (may be NULL) and returns `code`. */
st_status st_fail(st_err *e, st_status code, const char *file, int line, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
st_status st_no_memory(st_err *e, const char *what, const char *file, int line);
/* Puts "WHERE: " before the message of an error that is passed on. `e` may be NULL. */
void st_err_prefix(st_err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* A failure with its place: an expression, and the end of a function. A status is called `s`, or,
 * where s is a spec or a text, `status`. */
#define ST_ERR(e, code, ...)  st_fail((e), (code), __FILE__, __LINE__, __VA_ARGS__)
#define ST_FAIL(e, code, ...) return ST_ERR(e, code, __VA_ARGS__)
/* Out of memory for `what` (a path, "model"; NULL: nothing to name): an expression. */
#define ST_NOMEM(e, what) st_no_memory((e), (what), __FILE__, __LINE__)
#define ST_TRY(x)                                                                                  \
    do {                                                                                           \
        st_status try_ = (x);                                                                      \
        if (try_) return try_;                                                                     \
    } while (0)

/* ---- arena: one block, used in order --------------------------------------------------------- */

/* A stack of 64-byte aligned pieces. Arenas own, tensors borrow. A counting arena hands out
 * addresses that no process has: taking from it measures, touching it faults. */
typedef struct {
    char *base;
    size_t used, cap, peak;
    bool counting;
} st_arena;

enum { ST_ALIGN = 64 };

/* `bytes` of zeroed host memory (huge pages where the system grants them). ST_ENOMEM. */
st_status st_arena_open(st_arena *a, size_t bytes, st_err *e);
st_status st_arena_open_counting(st_arena *a, st_err *e); /* nothing is reserved, nothing fails */
void st_arena_close(st_arena *a);                         /* NULL and a zeroed arena are fine */
/* Running past `cap` is a broken plan, not bad input: it aborts with a message. A counting arena
 * instead measures `peak` as SIZE_MAX, which its user must look for: that plan fits no machine. */
void *st_arena_take(st_arena *a, size_t bytes);
static inline size_t st_arena_mark(const st_arena *a)
{
    return a->used;
}
static inline void st_arena_rewind(st_arena *a, size_t mark)
{
    a->used = mark;
}

/* Host memory outside arenas, for set-up code only. Overflow-checked; zeroed; NULL when out of
 * memory, too large, or `count` is negative. Free with free(). */
void *st_calloc(int64_t count, size_t size);

/* ---- random numbers: Philox4x32-10 (Salmon et al. 2011), the same on every device and rank -- */

/* Counter-based: block `n` of stream (`seed`, `stream`) does not depend on any other. */
typedef struct {
    uint32_t v[4];
} st_philox_block;

static inline st_philox_block st_philox(uint64_t seed, uint64_t stream, uint64_t n)
{
    uint32_t c0 = (uint32_t)n, c1 = (uint32_t)(n >> 32);
    uint32_t c2 = (uint32_t)stream, c3 = (uint32_t)(stream >> 32);
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return (st_philox_block){{c0, c1, c2, c3}};
}

/* A cursor over one stream; saved and restored as these three numbers. */
typedef struct {
    uint64_t seed, stream, pos; /* pos counts 32-bit numbers */
} st_rng;

uint32_t st_rng_u32(st_rng *r);
uint64_t st_rng_u64(st_rng *r);
double st_rng_uniform(st_rng *r);                 /* [0, 1), 53 bits */
uint64_t st_rng_below(st_rng *r, uint64_t limit); /* [0, limit), unbiased; limit > 0 */
/* Fills out[0..n) with N(mean, std^2) (Box-Muller on blocks of stream (seed, stream)). */
void st_normal_fill(float *out, int64_t n, float mean, float std, uint64_t seed, uint64_t stream);
/* U(-bound, bound), the same way. */
void st_uniform_fill(float *out, int64_t n, float bound, uint64_t seed, uint64_t stream);
/* FNV-1a of a name: the stream number of a parameter, so that inits do not depend on order. */
uint64_t st_hash_name(const char *name);

/* ---- JSON (jansson) -------------------------------------------------------------------------- */

/* Reads and parses a whole file of at most `max_bytes`; duplicate keys and trailing text are
 * ST_EFORMAT with line and column. *out is a new reference. */
st_status st_json_load(json_t **out, const char *path, size_t max_bytes, st_err *e);
st_status st_json_parse(json_t **out, const char *text, size_t n, const char *what, st_err *e);
/* A new string of what need not be UTF-8, as names of files: other bytes become U+FFFD. NULL: out
 * of memory. */
json_t *st_json_text(const char *text);
/* obj[key] as a number/bool/string; a missing key or null leaves *out alone, another type or a
 * value outside [lo, hi] is ST_EFORMAT naming `what`, key, value and range. */
st_status st_json_int(const json_t *obj, const char *key, int64_t lo, int64_t hi, int64_t *out,
                      const char *what, st_err *e);
st_status st_json_num(const json_t *obj, const char *key, double lo, double hi, double *out,
                      const char *what, st_err *e);
st_status st_json_flag(const json_t *obj, const char *key, bool *out, const char *what, st_err *e);
st_status st_json_str(const json_t *obj, const char *key, const char **out, const char *what,
                      st_err *e);

/* ---- rows of results (rows.c) ---------------------------------------------------------------- */

/* Numbers of a row: NAN where absent. Path: "decode.tokens_per_second". */
double st_row_num(const json_t *row, const char *path);
const char *st_row_str(const json_t *row, const char *key); /* "" where absent */

/* ---- spelling -------------------------------------------------------------------------------- */

/* The entry of the NULL-terminated list nearest to `word` (Damerau-Levenshtein), or NULL if none
 * is near enough to be worth proposing. */
const char *st_nearest(const char *word, const char *const *list);
/* Whole-text number parsing; false on junk, overflow or (float) non-finite. "1_000" is 1000,
 * "64k"/"2M" are not numbers. */
bool st_parse_int(const char *text, int64_t *out);
bool st_parse_num(const char *text, double *out);

/* A number and what it counts, by value: printf("%s", st_counted(n, "matrices").s) says "1 matrix"
 * or "12 matrices". `many` is a plural, at most 20 letters. */
typedef struct {
    char s[48];
} st_count;
st_count st_counted(int64_t n, const char *many);

/* A growing text. */
typedef struct {
    char *s;
    size_t n, cap;
} st_buffer;
bool st_buffer_put(st_buffer *b, const char *s, size_t n); /* false: out of memory */

/* Bytes of the UTF-8 byte-order mark that a text begins with: 3, or 0. It is no part of the text.
 */
size_t st_text_mark(const char *text, size_t n);
/* Are these the first bytes of a Git LFS pointer, which stands for a file that is elsewhere? */
bool st_lfs_pointer(const void *head, size_t n);
/* ST_EFORMAT naming `path`, if they are. */
st_status st_lfs_refuse(const char *path, const void *head, size_t n, st_err *e);

/* ---- speaking: the library reports, whoever runs it decides what is shown -------------------- */

typedef enum { ST_LOG_INFO, ST_LOG_WARN } st_log_level;
typedef struct {
    const char *what;    /* "prepare", "train", "decompose" */
    int64_t done, total; /* total <= 0: unknown */
    const char *unit;    /* "tokens", "matrices", "bytes" */
    const char *detail;  /* extra text for the line ("loss 3.21 lr 6e-4"), may be NULL */
    double later; /* seconds of jobs that come after this one, about; 0: none, or not known */
    bool last;    /* the job is finished: leave the line standing */
} st_progress;
typedef struct {
    void (*log)(void *ctx, st_log_level level, const char *text);
    void (*progress)(void *ctx, const st_progress *p);
    void *ctx;
} st_sink;

void st_sink_set(const st_sink *sink); /* set once by the program; default: silence */
/* What is set now, for a job that runs other jobs and reports for all of them. */
st_sink st_sink_get(void);
void st_log(st_log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void st_report(const st_progress *p);

/* Set by the program's signal handler, polled by long jobs (which then save and return ST_EINTR).
 */
void st_interrupt(void); /* async-signal-safe */
bool st_interrupted(void);
double st_now(void); /* seconds, monotonic */

/* ---- the machine (machine.c) ----------------------------------------------------------------- */

/* Threads for work beside the kernels: `asked`, or if that is 0 OMP_NUM_THREADS, or the processors
 * that are ours; at most 512. */
int st_threads(int asked);
/* Bytes of memory that may be asked for: most of what the machine or our container has free. */
double st_memory_free(void);
/* {version, commit, device, threads, machine, cores, date} of a program that computes on `device`.
 */
json_t *st_machine_json(const char *device, int threads);

#endif
