/* The inside of st_image: its formats (jpeg.c, png.c) and what they share (image.c). */
/* SPDX-License-Identifier: MIT */
#ifndef ST_IMAGE_CODEC_H
#define ST_IMAGE_CODEC_H

#include "image/image.h"

/* The bytes of an encoded image and what is said about them. */
typedef struct {
    const uint8_t *data;
    size_t n;
    const char *name;
    const st_image_how *how;
    int orientation; /* set by a decoder if how->exif: 1 to 8, as EXIF counts */
} st_image_source;

/* Refuses sizes over the limits, then allocates the pixels. */
st_status st_image_start(st_image *out, int64_t width, int64_t height, const st_image_source *in,
                         st_err *e);
/* Orientation in a TIFF header with its first directory (Exif 2.3, tag 0x0112); 1 if there is none
 * or the bytes are no TIFF. */
int st_image_orientation(const uint8_t *tiff, size_t n);

/* The decoders. `out` is empty after an error. */
st_status st_image_jpeg(st_image *out, st_image_source *in, st_err *e);
st_status st_image_png(st_image *out, st_image_source *in, st_err *e);

#endif
