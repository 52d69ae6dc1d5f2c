/* vision: classification of pictures. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_VISION_H
#define ST_VISION_H

#include "store/store.h"

typedef struct {
    const char *attention; /* of the token modules ("local:window=98"); NULL: full */
    int64_t top;           /* classes to say; 0: 5 */
    bool logits;           /* say them too (st_classify) */
    const char *interp;    /* "bicubic", "bilinear"; NULL: as the model's family wants it, as are */
    double crop;           /* 0 */
    const char *mean, *std; /* "R,G,B" or one number, of values from 0 to 1; NULL */
    int64_t size;           /* pixels to a side; 0: the model's, which is all it can read */
    bool exif;              /* turn pictures as their EXIF orientation says */
    int64_t max_pixels;     /* of a picture; 0: st_image_how's */
    int64_t batch;          /* 0: 16 */
    int threads;            /* that decode; 0: OMP_NUM_THREADS or all */
    st_dtype dtype;
    const char *device; /* NULL: "auto" */
    st_read_how how;
    /* of st_classify_eval */
    const char *labels; /* a file; NULL: by folders */
    const char *csv;    /* a row for each picture, and going on where one ended; NULL: none */
    bool replace;       /* begin `csv` anew */
    int64_t limit;      /* the first pictures only; 0: all */
    int64_t seeds;      /* random attention: so many draws; 0: 1 */
} st_classify_opts;
/* Classifies pictures: files, folders, archives. Result: model, attention, images [{path, top
 * [{class, id, name, probability}], logits} or {path, error}], classified, broken, transform,
 * seconds, images_per_second. Pictures that cannot be read are named in the log; if there is no
 * other, the first one's error is returned. */
st_status st_classify(const char *model, const char *const *images, int n,
                      const st_classify_opts *o, json_t **result, st_err *e);
/* Accuracy on pictures with labels: `data` is ImageNet's folder or archive (doc/FORMATS). Result:
 * model, data, attention, top1, top5 (parts of 1), top1_stderr, loss (mean, nats), images, broken,
 * classes (folders), labels (how they were found), transform, dtype, device, resumed (images that
 * were in `csv` already), seconds, images_per_second; with several seeds also runs [{seed, top1,
 * top5, loss}] and top1_std, top5_std, loss_std (n - 1), the plain ones being means. ST_EINTR after
 * Ctrl-C: what was done is in `csv`. */
st_status st_classify_eval(const char *model, const char *data, const st_classify_opts *o,
                           json_t **result, st_err *e);

#endif
