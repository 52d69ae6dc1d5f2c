/* Cross entropy (formulas: ref/loss.c). Two passes over a row of logits: one for the maximum and
 * the sum of exponentials together, rescaled when the maximum grows, one for the gradient. */
/* SPDX-License-Identifier: MIT */

/* A row's largest logit and sum of e^(z - top): together exact where log sum exp would round. */
typedef struct {
    float top;
    double total;
} loss_sums;

static loss_sums loss_row_sums(const st_tensor *logits, int64_t z0, int64_t width)
{
    float top = -INFINITY;
    double total = 0;
    for (int64_t j = 0; j < width; j += BLOCK) {
        float buf[BLOCK], most = -INFINITY, sum = 0;
        int64_t n = at_most(width - j, BLOCK);
        const float *z = block_in(logits, z0 + j, n, buf);
        /* a NaN is passed over here and found by the sum */
#pragma omp simd reduction(max : most)
        for (int64_t i = 0; i < n; i++)
            most = z[i] > most ? z[i] : most;
        if (most > top) {
            total *= (double)fast_exp(top - most);
            top = most;
        }
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < n; i++)
            sum += fast_exp(z[i] - top);
        total += (double)sum;
    }
    return (loss_sums){top, total};
}

static void loss_gradient(const st_xent_args *a, int64_t r, int32_t target, loss_sums s)
{
    float scale = target < 0 ? 0 : a->scale, share = (float)((double)scale / s.total), top = s.top;
    for (int64_t j = 0; j < a->width; j += BLOCK) {
        float buf[BLOCK], out[BLOCK];
        int64_t n = at_most(a->width - j, BLOCK), at = r * a->width + j;
        const float *z = block_in(&a->logits, at, n, buf);
        float *d = block_out(&a->dlogits, at, out);
#pragma omp simd
        for (int64_t i = 0; i < n; i++)
            d[i] = share * fast_exp(z[i] - top);
        if (target < 0) memset(d, 0, (size_t)n * sizeof *d);
        if (target >= j && target < j + n) d[target - j] -= scale;
        block_done(&a->dlogits, at, n, d);
    }
}

static void kernel_xent(st_stream *q, const st_xent_args *a)
{
    const int32_t *targets = a->targets.data;
    float *loss = a->loss.data;
    for (int64_t r = 0; r < a->rows; r++) {
        if (targets[r] >= a->width) {
            st_stream_latch(q, ST_EARG, "xent", "a target id is not below the number of classes");
            return;
        }
    }
    int parts = st_parts(q, a->rows * a->width * 4);
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int64_t r = 0; r < a->rows; r++) {
        int32_t t = targets[r];
        loss_sums sums = {0, 1};
        if (t >= 0) sums = loss_row_sums(&a->logits, r * a->width, a->width);
        double at_target = t < 0 ? 0 : (double)scalar_in(&a->logits, r * a->width + t);
        if (loss) loss[r] = (float)(log(sums.total) - (at_target - (double)sums.top));
        if (a->dlogits.data) loss_gradient(a, r, t, sums);
    }
}
