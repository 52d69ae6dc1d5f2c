/* Frequencies of rotary positions (Su et al. 2021), base^(-2i / dim), and the ways in which they
 * are scaled for longer contexts:
 *   linear   divided by factor (Chen et al. 2023)
 *   dynamic  of a base that grows with the sequence beyond the trained context ("NTK-aware")
 *   yarn     divided where they turn less than beta_slow times over the trained context, as they
 *            are above beta_fast, a ramp between; the angles' cosines and sines are scaled by
 *            0.1 ln(factor) + 1 (Peng et al. 2023)
 *   llama3   divided below low_freq_factor turns, as they are above high_freq_factor, smoothly
 *            between (Llama 3.1)
 * Numbers are float32 where Hugging Face's modeling_rope_utils.py has them so: at position 10^4 the
 * last bit of a frequency moves an angle by 10^-3. */
/* SPDX-License-Identifier: MIT */
#include "model/inner.h"
#include <math.h>

static double rope_mscale(double factor, double by)
{
    return factor <= 1 ? 1.0 : 0.1 * by * log(factor) + 1.0;
}

float st_rope_scale(const st_rope *r)
{
    if (r->kind != ST_ROPE_YARN) return 1.0f;
    if (r->attention_factor > 0) return (float)r->attention_factor;
    if (r->mscale > 0 && r->mscale_all > 0)
        return (float)(rope_mscale(r->factor, r->mscale) / rope_mscale(r->factor, r->mscale_all));
    return (float)rope_mscale(r->factor, 1);
}

/* base^(2i / dim). */
static float rope_power(double base, int64_t i, int64_t dim)
{
    float exponent = (float)(2 * i) / (float)dim;
    return (float)pow((double)(float)base, (double)exponent);
}

/* The frequency's number that turns `turns` times over `context` positions. */
static double rope_turning(const st_rope *r, int64_t dim, double turns)
{
    return (double)dim * log((double)r->original / (turns * 2 * M_PI)) / (2 * log(r->theta));
}

static void rope_yarn(const st_rope *r, int64_t dim, float *freq)
{
    double low = rope_turning(r, dim, r->beta_fast), high = rope_turning(r, dim, r->beta_slow);
    if (r->truncate) low = floor(low), high = ceil(high);
    low = fmax(low, 0);
    high = fmin(high, (double)(dim - 1));
    if (low == high) high += 0.001;
    for (int64_t i = 0; i < dim / 2; i++) {
        float ramp = ((float)i - (float)low) / (float)(high - low);
        ramp = fminf(fmaxf(ramp, 0.0f), 1.0f);
        float power = rope_power(r->theta, i, dim), as_is = 1.0f - ramp;
        float inner = 1.0f / ((float)r->factor * power), outer = 1.0f / power;
        freq[i] = inner * (1.0f - as_is) + outer * as_is;
    }
}

static void rope_llama3(const st_rope *r, int64_t dim, float *freq)
{
    float longest = (float)((double)r->original / r->low);
    float shortest = (float)((double)r->original / r->high);
    for (int64_t i = 0; i < dim / 2; i++) {
        float f = 1.0f / rope_power(r->theta, i, dim), length = (float)(2 * M_PI) / f;
        float divided = length > longest ? f / (float)r->factor : f;
        float smooth = ((float)r->original / length - (float)r->low) / (float)(r->high - r->low);
        bool between = !(length < shortest) && !(length > longest);
        freq[i] =
            between ? (1.0f - smooth) * divided / (float)r->factor + smooth * divided : divided;
    }
}

void st_rope_freqs(const st_rope *r, int64_t dim, int64_t len, float *freq)
{
    double base = r->theta;
    if (r->kind == ST_ROPE_YARN) {
        rope_yarn(r, dim, freq);
        return;
    }
    if (r->kind == ST_ROPE_LLAMA3) {
        rope_llama3(r, dim, freq);
        return;
    }
    if (r->kind == ST_ROPE_DYNAMIC && len > r->original) {
        double grown = r->factor * (double)len / (double)r->original - (r->factor - 1);
        base *= pow(grown, (double)dim / (double)(dim - 2));
    }
    for (int64_t i = 0; i < dim / 2; i++) {
        freq[i] = 1.0f / rope_power(base, i, dim);
        if (r->kind == ST_ROPE_LINEAR) freq[i] /= (float)r->factor;
    }
}
