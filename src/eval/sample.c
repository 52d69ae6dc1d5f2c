/* Choosing the next token: temperature, top-k, nucleus (Holtzman et al. 2020); UTF-8 output. */
/* SPDX-License-Identifier: MIT */
#include "eval/generate.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The place of the largest logit; -1 if there is none or a NaN. */
static int64_t sample_best(const float *logits, int64_t n)
{
    int64_t best = -1;
    for (int64_t i = 0; i < n; i++) {
        if (isnan(logits[i])) return -1;
        if (best < 0 || logits[i] > logits[best]) best = i;
    }
    return best >= 0 && isfinite(logits[best]) ? best : -1;
}

/* Likelier first, then by id, so that the order does not depend on the sort. */
static int sample_order(const void *a, const void *b)
{
    const struct generate_choice *x = a, *y = b;
    if (x->p != y->p) return x->p < y->p ? 1 : -1;
    return (x->id > y->id) - (x->id < y->id);
}

/* Heap order for the k best so far: the worst of them is at the root. */
static void sample_sink(struct generate_choice *heap, int64_t n, int64_t i)
{
    for (;;) {
        int64_t worst = i;
        for (int64_t c = 2 * i + 1; c <= 2 * i + 2 && c < n; c++) {
            if (sample_order(&heap[worst], &heap[c]) < 0) worst = c;
        }
        if (worst == i) return;
        struct generate_choice t = heap[i];
        heap[i] = heap[worst];
        heap[worst] = t;
        i = worst;
    }
}

/* Leaves the k likeliest of n choices in front, in O(n log k). */
static void sample_top(struct generate_choice *c, int64_t n, int64_t k)
{
    for (int64_t i = k / 2 - 1; i >= 0; i--)
        sample_sink(c, k, i);
    for (int64_t i = k; i < n; i++) {
        if (sample_order(&c[i], &c[0]) >= 0) continue;
        c[0] = c[i];
        sample_sink(c, k, 0);
    }
}

static double sample_sum(const struct generate_choice *c, int64_t n)
{
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++)
        sum += c[i].p;
    return sum;
}

/* The fewest likeliest choices with `top_p` of the probability, in front; how many they are. */
static int64_t sample_nucleus(struct generate_choice *c, int64_t n, double top_p)
{
    double sum = sample_sum(c, n), rest = (1.0 - top_p) * sum / (double)n;
    int64_t kept = 0;
    for (int64_t i = 0; i < n; i++) { /* all below `rest` together have less than 1 - top_p */
        if (c[i].p < rest) continue;
        struct generate_choice t = c[kept];
        c[kept++] = c[i];
        c[i] = t;
    }
    qsort(c, (size_t)kept, sizeof *c, sample_order);
    double seen = 0.0;
    for (int64_t i = 0; i < kept; i++) {
        seen += c[i].p;
        if (seen >= top_p * sum) return i + 1;
    }
    return kept;
}

int32_t generate_pick(const generate_sampler *s, const float *logits, int64_t n, st_rng *r)
{
    int64_t best = sample_best(logits, n);
    if (best < 0 || s->temperature <= 0.0) return (int32_t)best;
    for (int64_t i = 0; i < n; i++) {
        double x = ((double)logits[i] - (double)logits[best]) / s->temperature;
        s->choice[i] = (struct generate_choice){exp(x), (int32_t)i};
    }
    if (s->top_k > 0 && s->top_k < n) {
        sample_top(s->choice, n, s->top_k);
        n = s->top_k;
    }
    if (s->top_p < 1.0) n = sample_nucleus(s->choice, n, s->top_p);
    double at = st_rng_uniform(r) * sample_sum(s->choice, n);
    int64_t i = 0;
    while (i < n - 1 && at >= s->choice[i].p)
        at -= s->choice[i++].p;
    return s->choice[i].id;
}

/* ---- text ------------------------------------------------------------------------------------ */

static bool text_put(generate_text *t, const void *bytes, size_t n)
{
    if (t->n + n > t->cap) {
        size_t cap = t->cap ? t->cap * 2 : 256;
        char *more = realloc(t->text, cap);
        if (!more) return false;
        t->text = more;
        t->cap = cap;
    }
    memcpy(t->text + t->n, bytes, n);
    t->n += n;
    return true;
}

static bool text_replace(generate_text *t)
{
    t->have = t->need = 0;
    return text_put(t, "\xef\xbf\xbd", 3);
}

/* A first byte (Unicode 15, table 3-7: what may follow it). */
static bool text_first(generate_text *t, unsigned char b)
{
    if (b < 0x80) return text_put(t, &b, 1);
    if (b < 0xc2 || b > 0xf4) return text_replace(t);
    t->lo = b == 0xe0 ? 0xa0 : b == 0xf0 ? 0x90 : 0x80;
    t->hi = b == 0xed ? 0x9f : b == 0xf4 ? 0x8f : 0xbf;
    t->need = b < 0xe0 ? 1 : b < 0xf0 ? 2 : 3;
    t->part[0] = b;
    t->have = 1;
    return true;
}

bool generate_text_push(generate_text *t, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char b = (unsigned char)bytes[i];
        if (t->need && (b < t->lo || b > t->hi) && !text_replace(t)) return false;
        if (!t->need) {
            if (!text_first(t, b)) return false;
            continue;
        }
        t->part[t->have++] = b;
        t->lo = 0x80;
        t->hi = 0xbf;
        if (--t->need == 0) {
            if (!text_put(t, t->part, (size_t)t->have)) return false;
            t->have = 0;
        }
    }
    return true;
}

bool generate_text_end(generate_text *t)
{
    return t->need ? text_replace(t) : true;
}
