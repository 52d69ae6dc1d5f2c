/* classify: what the files of the job share. Inside vision only.
 *
 * A classifier (classify.c) runs the network on batches that a loader fills, on single images or,
 * for an evaluation (accuracy.c), on images with labels (ground_truth.c), writing a row for each
 * (rows.c); classes have names (classes.c). */
/* SPDX-License-Identifier: MIT */
#ifndef ST_VISION_INNER_H
#define ST_VISION_INNER_H

#include "image/image.h"
#include "vision/vision.h"

/* ---- classes.c ------------------------------------------------------------------------------- */

/* imagenet_classes.txt: "ID NAMES" a line in the order of the classes, after lines with '#'. */
extern const char st_imagenet_text[];

typedef struct {
    int64_t n;
    const char **id;   /* WordNet ids of ImageNet's 1000 classes; else NULLs */
    const char **name; /* never NULL: a number, where nothing says more */
    char *text;        /* they point into it */
    const char *from;  /* "config.json", "imagenet" or "numbers" */
} st_classes;
/* Of a model of n classes: id2label of the config.json in the folder `model`, unless it is of the
 * kind LABEL_7; else ImageNet's if n is 1000; else numbers. */
st_status st_classes_open(st_classes *c, const char *model, int64_t n, st_err *e);
void st_classes_close(st_classes *c);
/* The class with this id or whole name, n bytes of text; -1: none. */
int64_t st_classes_find(const st_classes *c, const char *text, size_t n);

/* ---- ground_truth.c -------------------------------------------------------------------------- */

/* The pictures of an evaluation and their labels, in the loader's order. */
typedef struct {
    int64_t n;
    char **name;      /* without the part that all share: "n01440764/x.JPEG" */
    int32_t *label;   /* class numbers */
    const char *rule; /* "wnid", "name", "rank" or "file": how labels were found */
    int64_t folders;  /* of classes */
    char *path;       /* what the loader is given */
} st_truth;
/* `path`: a folder of class folders, or one that has them in val, or an archive of them; or
 * `labels`, a file, says the label of each picture (doc/FORMATS). */
st_status st_truth_open(st_truth *t, const char *path, const char *labels, const st_classes *c,
                        st_err *e);
void st_truth_close(st_truth *t);

/* ---- classify.c ------------------------------------------------------------------------------ */

typedef struct {
    st_loaded l;
    st_vision_shape v;
    st_image_fit fit;
    st_classes classes;
    st_arena arena;
    st_tensor pixels, logits; /* on the device */
    float *h_pixels, *h_logits;
    int64_t batch, top;
    int threads;
    st_attention how[2]; /* of the token modules */
    st_arena kept;       /* their random directions, where those are kept */
    char attention[ST_SPEC_TEXT];
} st_classifier;
st_status st_classifier_open(st_classifier *c, const char *model, const st_classify_opts *o,
                             st_err *e);
void st_classifier_close(st_classifier *c);
/* h_logits of the first n pictures in h_pixels. Logits that are no numbers are ST_EFORMAT. */
st_status st_classifier_run(st_classifier *c, int64_t n, st_err *e);
/* The seed of the random directions it attends with; -1: there is nothing random. */
int64_t st_classifier_seed_of(const st_classifier *c);
/* Another one from here on. */
st_status st_classifier_seed(st_classifier *c, int64_t seed, st_err *e);
/* The `top` likeliest classes of logits z, the likeliest first, equal ones by number; *logsum: the
 * logarithm of the sum of exp(z). */
void st_top_classes(const float *z, int64_t n, int64_t top, int64_t *best, double *logsum);
/* {size, resize, crop, interpolation, mean, std, exif}: what is done to pictures. */
json_t *st_classifier_transform(const st_classifier *c, const st_classify_opts *o);

/* ---- rows.c ---------------------------------------------------------------------------------- */

typedef struct {
    int64_t label, best[5], seed; /* best -1: none */
    int tops;                     /* of best, what the model has */
    float probability, loss;      /* which the file holds exactly: going on gives the same sums */
    const char *error;            /* NULL: none */
} st_class_row;
/* What a run has found so far. */
typedef struct {
    int64_t images, right, right5, broken;
    double loss;
} st_class_tally;
void st_class_count(st_class_tally *t, const st_class_row *r);

/* A CSV with a row for each picture and seed, and "FILE.json" beside it, which has the settings: an
 * evaluation with the same ones goes on with the pictures that it has no rows of. Set what is
 * first, then open. */
typedef struct {
    const st_truth *truth;
    int64_t seeds, seed;   /* how many; the first */
    st_class_tally *tally; /* of each seed: rows that are there are counted into it */
    FILE *f;               /* NULL: no file was asked for */
    char *path;
    bool *have;     /* of each picture, were its rows there? NULL with `f` */
    int64_t images; /* how many were */
    bool astray;    /* rows were added that belong between others */
} st_class_rows;
st_status st_class_rows_open(st_class_rows *r, const char *path, bool replace,
                             const json_t *settings, st_err *e);
st_status st_class_rows_add(st_class_rows *r, const char *name, const st_class_row *row, st_err *e);
st_status st_class_rows_flush(st_class_rows *r, st_err *e);
/* After the last row: the file in the pictures' order, and the tally as it is in that order. */
st_status st_class_rows_end(st_class_rows *r, st_err *e);
void st_class_rows_close(st_class_rows *r);

#endif
