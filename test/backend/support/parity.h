/* Parity: every operation on every backend and instruction set against ref, on the same inputs.
 *
 * A case function describes variant `c->variant` of one operation: it fills the argument struct's
 * numbers and declares each tensor once, with the helpers below. The harness gives every operand
 * guarded memory, runs ref and the backend under test, and compares. A false return says that there
 * are no more variants. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_PARITY_H
#define ST_PARITY_H

#include "backend/backend.h"
#include "tensor/tensor.h"

enum { PARITY_OPERANDS = 14 };

typedef enum { PARITY_IN, PARITY_OUT, PARITY_UPDATE, PARITY_WORK } parity_role;

typedef struct {
    size_t at;       /* where its st_tensor is in the argument struct */
    int shares;      /* operand whose memory it is, or -1 */
    st_tensor shape; /* flat: count and dtype */
    parity_role role;
    double lo, hi;      /* uniform in [lo, hi); lo == hi: normal with deviation hi; ids: integers */
    int64_t order;      /* of ids: each so many are a permutation of 0 .. order - 1 */
    bool grid;          /* what Q8_0 blocks hold exactly */
    int64_t rows, cols; /* of each matrix of a packed format */
    double tol;         /* absolute bound of the difference, besides rounding of the result */
} parity_operand;

typedef struct {
    const char *op;
    int variant;
    st_dtype dtype;
    uint64_t seed;
    char *args;
    int operands;
    parity_operand operand[PARITY_OPERANDS];
    bool gpu;  /* products of bf16 may round what they sum up, see ops.h */
    bool gaps; /* operands have unused elements between rows: bytes are not comparable with dry */
} parity_case;

/* The `i`th random choice of a variant, below `n`; does not depend on seed or dtype. */
int64_t parity_pick(const parity_case *c, int i, int64_t n);
/* A dimension worth testing, at most `limit`: 1, primes, powers of two and their neighbours. */
int64_t parity_dim(const parity_case *c, int i, int64_t limit);
/* Lays a tensor of heads with `len` rows out: in every other variant as a slice of a packed one.
 * The numbers it takes. */
int64_t parity_rows(parity_case *c, const st_heads *h, int64_t len, st_strided *t);

/* Inputs: normal with standard deviation `std`; uniform; integers in [lo, hi). */
void parity_in(parity_case *c, st_tensor *slot, st_dtype t, int64_t n, double std);
void parity_in_range(parity_case *c, st_tensor *slot, st_dtype t, int64_t n, double lo, double hi);
/* Whole blocks of 32 integers of -127 .. 127, of which one is 127, times a power of two: rounding
 * them to Q8_0 changes nothing. Below 2 in magnitude. */
void parity_in_grid(parity_case *c, st_tensor *slot, st_dtype t, int64_t n);
/* Matrices (rows, cols), n numbers in all, of normal numbers in a block format, packed or not. */
void parity_in_blocks(parity_case *c, st_tensor *slot, st_dtype t, int64_t n, int64_t rows,
                      int64_t cols);
void parity_ids(parity_case *c, st_tensor *slot, int64_t n, int64_t lo, int64_t hi);
/* `runs` permutations of 0 .. total - 1. */
void parity_orders(parity_case *c, st_tensor *slot, int64_t runs, int64_t total);
/* Outputs: pre-filled with NaN; what ref leaves alone must be left alone. */
void parity_out(parity_case *c, st_tensor *slot, st_dtype t, int64_t n, double tol);
/* Read and written. */
void parity_update(parity_case *c, st_tensor *slot, st_dtype t, int64_t n, double std, double tol);
/* Scratch, F32 or of dtype t: filled with NaN and not compared. */
void parity_work(parity_case *c, st_tensor *slot, int64_t n);
void parity_scratch(parity_case *c, st_tensor *slot, st_dtype t, int64_t n);
/* Output `slot` in the memory of the declared input `of`. */
void parity_inplace(parity_case *c, st_tensor *slot, const st_tensor *of, double tol);

typedef bool parity_describe(parity_case *c);
/* Describes one operation's cases (cases_*.c); args are the operation's struct, zeroed. */
#define ST_OP(op, required) bool cases_##op(parity_case *c);
#include "backend/ops.def"
#undef ST_OP

typedef void parity_call(st_stream *q, const void *args);

/* What to run: all peels, thread counts, dtypes, variants and seeds of an operation, or one. */
typedef struct {
    const char *op;
    parity_describe *describe;
    parity_call *call;
    bool (*there)(const st_stream *q); /* an optional operation may be missing */
    size_t args_size;
} parity_op;

/* Returns the number of failures, each reported on standard error with the command to rerun it. Of
 * the cases, each `every`th is run. */
int parity_run(const parity_op *op, const char *device, int every);
/* "op:variant:dtype:seed:forbid:threads" as a failure prints it; in the place of what is forbidden
 * to the cpu, another device stands by its name. -1: not such a text. */
int parity_rerun(const parity_op *ops, int count, const char *text);
void parity_program(const char *path); /* argv[0], for the rerun command */

static const double PARITY_EPS = 5.9604644775390625e-8; /* 2^-24: half an ulp of 1 in float32 */

#endif
