/* Classifying pictures: a loader's threads decode, the network takes batches of what they have. */
/* SPDX-License-Identifier: MIT */
#include "data/data.h"
#include "vision/inner.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CLASSIFY_BATCH = 16, CLASSIFY_TOP = 5, CLASSIFY_SAY = 20 };

/* ---- the transform --------------------------------------------------------------------------- */

/* Three numbers, or one for all channels, at `out`; NULL leaves them. */
static st_status classify_channels(const char *text, const char *what, float out[3], st_err *e)
{
    double v[3];
    char word[64];
    int n = 0;
    if (!text) return ST_OK;
    for (const char *p = text; n < 3; p++) {
        size_t k = strcspn(p, ",");
        snprintf(word, sizeof word, "%.*s", k < sizeof word ? (int)k : 0, p);
        if (!st_parse_num(word, &v[n++])) break;
        p += k;
        if (!*p && n != 2) {
            for (int i = 0; i < 3; i++)
                out[i] = (float)v[n == 1 ? 0 : i];
            return ST_OK;
        }
        if (!*p) break;
    }
    ST_FAIL(e, ST_EARG,
            "%s '%.80s': expected a number, or three for red, green and blue (0.5,0.5,0.5)", what,
            text);
}

/* What the authors of T2T-ViT evaluate with, at 224 and at 384 pixels: a crop of 0.9, bicubic, the
 * mean and spread of ImageNet. */
static st_status classify_fit(st_classifier *c, const st_classify_opts *o, st_err *e)
{
    c->fit = (st_image_fit){.size = c->v.size,
                            .filter = o->interp && !strcmp(o->interp, "bilinear") ? ST_BILINEAR
                                                                                  : ST_BICUBIC,
                            .crop = o->crop > 0 ? o->crop : 0.9,
                            .mean = {0.485f, 0.456f, 0.406f},
                            .std = {0.229f, 0.224f, 0.225f}};
    if (o->size && o->size != c->v.size) {
        ST_FAIL(e, ST_EARG,
                "image size %lld: the model reads %lld pixels to a side; strut convert MODEL OUT "
                "--image-size %lld makes one that reads yours",
                (long long)o->size, (long long)c->v.size, (long long)o->size);
    }
    ST_TRY(classify_channels(o->mean, "mean", c->fit.mean, e));
    ST_TRY(classify_channels(o->std, "std", c->fit.std, e));
    return st_image_check_fit(&c->fit, e);
}

json_t *st_classifier_transform(const st_classifier *c, const st_classify_opts *o)
{
    const st_image_fit *f = &c->fit;
    return json_pack("{s:I, s:I, s:f, s:s, s:[f,f,f], s:[f,f,f], s:b}", "size", (json_int_t)f->size,
                     "resize", (json_int_t)floor((double)f->size / f->crop), "crop", f->crop,
                     "interpolation", f->filter == ST_BILINEAR ? "bilinear" : "bicubic", "mean",
                     (double)f->mean[0], (double)f->mean[1], (double)f->mean[2], "std",
                     (double)f->std[0], (double)f->std[1], (double)f->std[2], "exif", o->exif);
}

/* ---- attention ------------------------------------------------------------------------------- */

int64_t st_classifier_seed_of(const st_classifier *c)
{
    st_attention how = c->how[0];
    const int64_t *seed = st_attention_seed(&how);
    return seed ? *seed : -1;
}

static st_status classify_draw(st_classifier *c, st_err *e)
{
    st_device_arena_close(c->l.stream, &c->kept);
    c->how[0].projection = c->how[1].projection = (st_tensor){0};
    return st_model_vision_keep(c->l.model, c->l.stream, c->how, &c->kept, e);
}

st_status st_classifier_seed(st_classifier *c, int64_t seed, st_err *e)
{
    for (int i = 0; i < 2; i++) {
        int64_t *knob = st_attention_seed(&c->how[i]);
        if (knob) *knob = seed;
    }
    return classify_draw(c, e);
}

static st_status classify_attend(st_classifier *c, const char *text, st_err *e)
{
    ST_TRY(st_attention_parse(&c->how[0], text ? text : "full", e));
    st_attention_print(&c->how[0], c->attention);
    if (c->how[0].type == st_attention_types[0])
        c->how[0] = (st_attention){0}; /* exact, as any model can */
    c->how[1] = c->how[0];
    return classify_draw(c, e);
}

/* ---- the network ----------------------------------------------------------------------------- */

static st_status classify_plan(st_classifier *c, st_dtype dtype, st_err *e)
{
    size_t bytes = 0, numbers = 0;
    st_cost cost;
    int64_t pixels = c->v.channels * c->v.size * c->v.size;
    st_vision_args a = {.batch = c->batch, .attention = {c->how[0], c->how[1]}};
    ST_TRY(st_model_vision_plan(c->l.model, c->l.stream, dtype, &a, &bytes, &cost, e));
    numbers = (size_t)(c->batch * (pixels + c->v.classes)) * sizeof(float);
    ST_TRY(st_device_arena(c->l.stream, bytes + numbers + (size_t)2 * ST_ALIGN, &c->arena, e));
    c->pixels = st_take1(&c->arena, ST_F32, c->batch * pixels);
    c->logits = st_take1(&c->arena, ST_F32, c->batch * c->v.classes);
    c->h_pixels = st_calloc(c->batch * pixels, sizeof(float));
    c->h_logits = st_calloc(c->batch * c->v.classes, sizeof(float));
    if (c->h_pixels && c->h_logits) return ST_OK;
    ST_FAIL(e, ST_ENOMEM, "out of memory for %lld images; try a smaller batch",
            (long long)c->batch);
}

st_status st_classifier_open(st_classifier *c, const char *model, const st_classify_opts *o,
                             st_err *e)
{
    *c = (st_classifier){.batch = o->batch ? o->batch : CLASSIFY_BATCH,
                         .top = o->top ? o->top : CLASSIFY_TOP,
                         .threads = st_threads(o->threads)};
    st_dtype dtype = o->dtype;
    ST_TRY(st_loaded_open_as(&c->l, model, &o->how, o->device, dtype, e));
    ST_TRY(st_need_vision(c->l.model, model, "classify", e));
    c->v = st_model_vision_shape(c->l.model);
    if (c->v.channels != 3) {
        ST_FAIL(e, ST_EUNSUPPORTED, "%s: reads images of %lld channels, expected 3", model,
                (long long)c->v.channels);
    }
    if (c->top > c->v.classes) c->top = c->v.classes;
    ST_TRY(classify_fit(c, o, e));
    ST_TRY(classify_attend(c, o->attention, e));
    ST_TRY(st_classes_open(&c->classes, model, c->v.classes, e));
    return classify_plan(c, dtype, e);
}

void st_classifier_close(st_classifier *c)
{
    if (c->l.stream) {
        st_device_arena_close(c->l.stream, &c->arena);
        st_device_arena_close(c->l.stream, &c->kept);
    }
    st_loaded_close(&c->l);
    st_classes_close(&c->classes);
    free(c->h_pixels);
    free(c->h_logits);
}

st_status st_classifier_run(st_classifier *c, int64_t n, st_err *e)
{
    int64_t dim[] = {n, c->v.channels, c->v.size, c->v.size};
    st_vision_args a = {.batch = n,
                        .attention = {c->how[0], c->how[1]},
                        .pixels = st_view(c->pixels.data, ST_F32, 4, dim),
                        .logits = st_view2(c->logits.data, ST_F32, n, c->v.classes)};
    st_upload(c->l.stream, a.pixels, c->h_pixels);
    st_model_vision_forward(c->l.model, c->l.stream, &a, &c->arena);
    ST_TRY(st_stream_sync(c->l.stream, e));
    st_download(c->l.stream, c->h_logits, a.logits);
    for (int64_t i = 0; i < n * c->v.classes; i++) {
        if (isfinite(c->h_logits[i])) continue;
        ST_FAIL(e, ST_EFORMAT,
                "a logit is not a finite number; the weights are broken or too large for this "
                "element type (try --dtype f32)");
    }
    return ST_OK;
}

void st_top_classes(const float *z, int64_t n, int64_t top, int64_t *best, double *logsum)
{
    double sum = 0.0;
    int64_t k = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t at = k < top ? k++ : top;
        for (; at > 0 && z[i] > z[best[at - 1]]; at--)
            if (at < top) best[at] = best[at - 1];
        if (at < top) best[at] = i;
    }
    for (int64_t i = 0; i < n; i++)
        sum += exp((double)z[i] - (double)z[best[0]]);
    *logsum = log(sum) + (double)z[best[0]];
}

/* ---- pictures -------------------------------------------------------------------------------- */

typedef struct {
    st_classifier c;
    const st_classify_opts *o;
    json_t *images;
    int64_t done, broken;
    int64_t *best;
    st_err first; /* of broken pictures */
    bool held;    /* it was not said yet: where it is the only picture, it is the error */
} classify_job;

static st_status classify_one(classify_job *j, json_t *row, const float *z, st_err *e)
{
    const st_classifier *c = &j->c;
    double logsum;
    json_t *top = json_array(), *logits = j->o->logits ? json_array() : NULL;
    st_top_classes(z, c->v.classes, c->top, j->best, &logsum);
    for (int64_t k = 0; k < c->top; k++) {
        int64_t at = j->best[k];
        json_array_append_new(top, json_pack("{s:I, s:s?, s:s, s:f}", "class", (json_int_t)at, "id",
                                             c->classes.id[at], "name", c->classes.name[at],
                                             "probability", exp((double)z[at] - logsum)));
    }
    for (int64_t k = 0; logits && k < c->v.classes; k++)
        json_array_append_new(logits, json_real((double)z[k]));
    bool bad = json_object_set_new(row, "top", top) ||
               (logits && json_object_set_new(row, "logits", logits));
    if (bad) return ST_NOMEM(e, NULL);
    return ST_OK;
}

static void classify_say_first(classify_job *j)
{
    if (j->held) st_log(ST_LOG_WARN, "%s", j->first.msg);
    j->held = false;
}

/* A picture that cannot be read: a row with the reason, a line in the log. */
static void classify_broken(classify_job *j, json_t *row, const st_err *bad)
{
    json_object_set_new(row, "error", st_json_text(bad->msg));
    if (j->broken++ == 0) {
        j->first = *bad;
        j->held = true;
        return;
    }
    classify_say_first(j);
    if (j->broken <= CLASSIFY_SAY) st_log(ST_LOG_WARN, "%s", bad->msg);
    if (j->broken == CLASSIFY_SAY + 1) st_log(ST_LOG_WARN, "more broken images are not named here");
}

/* Fills a batch and classifies it; *more false: there was not a full one. What a failure leaves of
 * it is no result. */
static st_status classify_batch(classify_job *j, st_loader *l, bool *more, st_err *e)
{
    int64_t n = 0, pixels = j->c.v.channels * j->c.v.size * j->c.v.size;
    size_t first = json_array_size(j->images);
    while (n < j->c.batch) {
        st_picture p;
        st_err bad;
        ST_TRY(st_loader_next(l, &p, j->c.h_pixels + n * pixels, &bad, e));
        *more = p.name != NULL;
        if (!p.name) break;
        json_t *row = json_pack("{s:o}", "path", st_json_text(p.name));
        st_picture_free(&p);
        if (json_array_append_new(j->images, row)) return ST_NOMEM(e, NULL);
        if (bad.code)
            classify_broken(j, row, &bad);
        else
            n++;
    }
    if (n) classify_say_first(j);
    if (n) ST_TRY(st_classifier_run(&j->c, n, e));
    int64_t at = 0;
    for (size_t i = first; i < json_array_size(j->images); i++) {
        json_t *row = json_array_get(j->images, i);
        if (json_object_get(row, "error")) continue;
        ST_TRY(classify_one(j, row, j->c.h_logits + at++ * j->c.v.classes, e));
    }
    j->done += n;
    return ST_OK;
}

static st_status classify_all(classify_job *j, const char *const *images, int n, st_err *e)
{
    st_loader_opts lo = {.fit = j->c.fit,
                         .how = {.max_pixels = j->o->max_pixels, .exif = j->o->exif},
                         .threads = j->c.threads,
                         .slots = j->c.batch + j->c.threads};
    st_loader *l;
    bool more = true;
    st_report(&(st_progress){.what = "classify", .unit = "images"});
    ST_TRY(st_loader_open(&l, images, n, &lo, e));
    st_status s = ST_OK;
    while (!s && more) {
        size_t whole = json_array_size(j->images);
        int64_t broken = j->broken;
        s = classify_batch(j, l, &more, e);
        if (s) j->broken = broken;
        while (s && json_array_size(j->images) > whole)
            json_array_remove(j->images, json_array_size(j->images) - 1);
        st_report(&(st_progress){.what = "classify",
                                 .done = j->done + j->broken,
                                 .unit = "images",
                                 .last = !s && !more});
    }
    st_loader_close(l);
    if (s || j->done) classify_say_first(j);
    if (s == ST_EINTR && json_array_size(j->images))
        st_err_prefix(e, "after %s", st_counted((int64_t)json_array_size(j->images), "images").s);
    ST_TRY(s);
    if (j->done) return ST_OK;
    if (j->broken > 1) {
        ST_FAIL(e, j->first.code, "of %s none can be read", st_counted(j->broken, "pictures").s);
    }
    if (e && j->first.code) *e = j->first;
    if (j->first.code) return j->first.code;
    ST_FAIL(e, ST_EARG, "%s: no pictures in it (.jpg, .jpeg, .png)", images[0]);
}

st_status st_classify(const char *model, const char *const *images, int n,
                      const st_classify_opts *o, json_t **result, st_err *e)
{
    classify_job j = {.o = o, .images = json_array()};
    st_status s = st_classifier_open(&j.c, model, o, e);
    if (!s && !(j.best = st_calloc(j.c.top, sizeof *j.best))) s = ST_NOMEM(e, NULL);
    double start = st_now();
    if (!s) s = classify_all(&j, images, n, e);
    double seconds = st_now() - start;
    st_status failed = s;
    if (!s || (s == ST_EINTR && json_array_size(j.images))) { /* what was done until then, too */
        *result = json_pack(
            "{s:o, s:s, s:O, s:I, s:I, s:o, s:f, s:f}", "model", st_json_text(model), "attention",
            j.c.attention, "images", j.images, "classified", (json_int_t)j.done, "broken",
            (json_int_t)j.broken, "transform", st_classifier_transform(&j.c, o), "seconds", seconds,
            "images_per_second", (double)j.done / (seconds > 1e-9 ? seconds : 1e-9));
        if (!*result) failed = ST_NOMEM(e, NULL);
    }
    st_classifier_close(&j.c);
    json_decref(j.images);
    free(j.best);
    return failed;
}
