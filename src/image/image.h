/* image: pictures: decoded, resized, and those of folders and archives in order. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_IMAGE_H
#define ST_IMAGE_H

#include "base/base.h"

/* ---- pictures (image*.c over libjpeg-turbo and libpng, resize.c) ----------------------------- */

typedef struct {
    int64_t width, height;
    uint8_t *rgb; /* (height, width, 3) */
} st_image;
typedef struct {
    int64_t max_pixels; /* of a picture; 0: 89,478,485, where Pillow begins to warn */
    bool exif;          /* turn it as its EXIF orientation says; Pillow and torchvision do not */
} st_image_how;
bool st_image_is(const void *data, size_t n); /* JPEG or PNG, by its first bytes? */
/* The pixels of a JPEG or PNG, told by its content, equal to those of Pillow's convert("RGB"):
 * palettes, grey, 16 bits, CMYK become RGB, alpha is dropped. Whatever ends early, is corrupt where
 * that can be told or has too many pixels is ST_EFORMAT. `how` may be NULL. Thread-safe. */
st_status st_image_decode(st_image *out, const void *data, size_t n, const char *name,
                          const st_image_how *how, st_err *e);
void st_image_free(st_image *i);

typedef enum { ST_BICUBIC, ST_BILINEAR } st_filter;
/* Pillow's Image.resize, the same bytes; *out is new. */
st_status st_image_resize(st_image *out, const st_image *in, int64_t width, int64_t height,
                          st_filter kind, st_err *e);
/* How a picture becomes a network's input: its short side floor(size / crop) pixels, the middle
 * size x size of it (zeros where it is smaller), (byte / 255 - mean) / std. */
typedef struct {
    int64_t size;
    st_filter filter;
    double crop;
    float mean[3], std[3]; /* of red, green, blue */
} st_image_fit;
st_status st_image_check_fit(const st_image_fit *f, st_err *e);
/* planes: (3, size, size), as torchvision's Resize, CenterCrop, ToTensor and Normalize make it. */
st_status st_image_planes(const st_image *in, const st_image_fit *f, float *planes, st_err *e);

/* ---- picture files in folders and archives (gallery.c, loader.c) ----------------------------- */

/* Walks inputs in order, as st_docs does. Of folders and archives (.tar .zip and .gz .xz .zst .bz2,
 * in any nesting) the files with a picture's suffix count (.jpg .jpeg .png, and those of formats
 * that strut knows but cannot read); a file that is named itself always does. */
typedef struct st_gallery st_gallery;
typedef struct {
    char *name; /* "DIR/a.jpg", "a.tar: b/c.jpg"; NULL: no more */
    bool packed;
    uint8_t *data; /* of packed ones, if asked for; others are files to be read */
    size_t n;
} st_picture;
st_status st_gallery_open(st_gallery **out, const char *const *paths, int n, st_err *e);
/* The next one, which is the caller's. An archive that cannot be read further is an error. */
st_status st_gallery_next(st_gallery *g, st_picture *p, bool bytes, st_err *e);
void st_gallery_close(st_gallery *g);
void st_picture_free(st_picture *p);
/* The folder a picture is in, without those around it: of "n01/x.jpg", "a.tar: n01/x.jpg",
 * "n01.tar: x.jpg" and "a.tar: n01.tar: x.jpg" this is n01. Its first byte, *n bytes. */
const char *st_picture_folder(const st_picture *p, size_t *n);

/* Pictures decoded and made planes by threads beside the caller, in the gallery's order. No more
 * than `slots` (0: 2 a thread) are decoded and waiting, whatever the input. */
typedef struct st_loader st_loader;
typedef struct {
    st_image_fit fit;
    st_image_how how;
    int threads;         /* 1 or more */
    int64_t slots;       /* decoded ahead */
    int64_t skip, limit; /* leave out so many at the start; stop after so many (0: never) */
} st_loader_opts;
st_status st_loader_open(st_loader **out, const char *const *paths, int n, const st_loader_opts *o,
                         st_err *e);
/* The next picture, whose name is the caller's (st_picture_free), and its planes (3, size, size). A
 * picture that cannot be read leaves its reason in *bad (code not ST_OK) and zeros in planes.
 * picture->name NULL: no more. ST_EINTR after Ctrl-C. One thread at a time. */
st_status st_loader_next(st_loader *l, st_picture *picture, float *planes, st_err *bad, st_err *e);
void st_loader_close(st_loader *l); /* also before the end */

#endif
