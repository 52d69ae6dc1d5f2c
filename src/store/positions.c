/* Positions of an image's patches: whether they are the sinusoid that T2T-ViT starts with and never
 * trains, and a model for images of another size. The grid is interpolated as its authors do it for
 * 384 pixels: bicubic (Keys 1981, a = -3/4), half-pixel centres, edges repeated, which is PyTorch's
 * interpolate(mode="bicubic", align_corners=False). The class token's row stays. */
/* SPDX-License-Identifier: MIT */
#include "store/store.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void positions_find(void *ctx, const st_param *p)
{
    if (strcmp(p->name, "pos_embed") == 0) *(st_param *)ctx = *p;
}

double st_positions_off(const st_model *m, const float *flat)
{
    st_param p = {0};
    double most = 0;
    st_model_params(m, positions_find, &p);
    float *want = p.fill ? st_calloc(st_numel(p.w), sizeof *want) : NULL;
    if (!want) return 0;
    p.fill(&p, 0, want);
    for (int64_t i = 0; i < st_numel(p.w); i++)
        most = fmax(most, fabs((double)flat[p.offset + i] - (double)want[i]));
    free(want);
    return most;
}

/* Weights of the four neighbours of a point that lies t after the second. */
static void positions_cubic(double t, double w[4])
{
    const double a = -0.75;
    double far = t + 1, near = t, after = 1 - t, last = 2 - t;
    w[0] = ((a * far - 5 * a) * far + 8 * a) * far - 4 * a;
    w[1] = ((a + 2) * near - (a + 3)) * near * near + 1;
    w[2] = ((a + 2) * after - (a + 3)) * after * after + 1;
    w[3] = ((a * last - 5 * a) * last + 8 * a) * last - 4 * a;
}

static int64_t positions_clamp(int64_t i, int64_t n)
{
    return i < 0 ? 0 : i >= n ? n - 1 : i;
}

void st_positions_grid(const float *from, int64_t old, float *to, int64_t new, int64_t width)
{
    double scale = (double)old / (double)new;
    for (int64_t y = 0; y < new; y++) {
        double fy = ((double)y + 0.5) * scale - 0.5, wy[4];
        positions_cubic(fy - floor(fy), wy);
        for (int64_t x = 0; x < new; x++) {
            double fx = ((double)x + 0.5) * scale - 0.5, wx[4];
            positions_cubic(fx - floor(fx), wx);
            for (int64_t c = 0; c < width; c++) {
                double sum = 0;
                for (int i = 0; i < 16; i++) {
                    int64_t row = positions_clamp((int64_t)floor(fy) - 1 + i / 4, old);
                    int64_t col = positions_clamp((int64_t)floor(fx) - 1 + i % 4, old);
                    sum += wy[i / 4] * wx[i % 4] * (double)from[(row * old + col) * width + c];
                }
                to[(y * new + x) * width + c] = (float)sum;
            }
        }
    }
}

struct positions_move {
    const st_model *from;
    const float *flat;
    float *to;
    const char *name;
    st_param found;
};

static void positions_seek(void *ctx, const st_param *p)
{
    struct positions_move *m = ctx;
    if (strcmp(p->name, m->name) == 0) m->found = *p;
}

static void positions_param(void *ctx, const st_param *p)
{
    struct positions_move *m = ctx;
    m->name = p->name;
    st_model_params(m->from, positions_seek, m);
    const float *from = m->flat + m->found.offset;
    if (strcmp(p->name, "pos_embed") != 0) {
        memcpy(m->to + p->offset, from, (size_t)st_numel(p->w) * sizeof *from);
        return;
    }
    int64_t width = p->w.dim[2];
    int64_t old = llround(sqrt((double)(m->found.w.dim[1] - 1)));
    int64_t new = llround(sqrt((double)(p->w.dim[1] - 1)));
    memcpy(m->to + p->offset, from, (size_t)width * sizeof *from);
    st_positions_grid(from + width, old, m->to + p->offset + width, new, width);
}

st_status st_positions_resize(st_model **m, float **flat, int64_t size, st_err *e)
{
    if (st_model_vision_shape(*m).size == size) return ST_OK;
    st_model *next = NULL;
    json_t *config = st_model_config(*m);
    if (!config) return ST_NOMEM(e, NULL);
    json_object_set_new(config, "img_size", json_integer(size));
    st_status s = st_model_open(&next, config, e);
    json_decref(config);
    if (s) return s;
    float *to = st_calloc(st_model_elements(next), sizeof *to);
    if (!to) {
        st_model_close(next);
        return ST_NOMEM(e, NULL);
    }
    struct positions_move move = {.from = *m, .flat = *flat, .to = to};
    st_model_params(next, positions_param, &move);
    free(*flat);
    st_model_close(*m);
    *m = next;
    *flat = to;
    return ST_OK;
}
