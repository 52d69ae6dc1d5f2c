/* PNG over libpng, every kind of pixel made RGB as Pillow's convert("RGB") does: alpha and
 * transparent colours are dropped, 16 bits become their upper 8, but grey of 16 bits is clipped at
 * 255. */
/* SPDX-License-Identifier: MIT */
#include "image/codec.h"
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <png.h>

typedef struct {
    png_structp p;
    png_infop info;
    st_image_source *in;
    size_t at; /* read so far */
    bool starved;
    st_image *image;
    uint8_t *raw; /* a row, of interlaced pictures all rows, one byte or two a sample */
    int64_t stride;
    int kind, depth, samples; /* PNG_COLOR_TYPE_*, bits, in a pixel */
    uint8_t palette[256][3];
    char why[160];
    st_status status;
    st_err *e;
} png_job;

static void png_quit(png_structp p, png_const_charp text)
{
    png_job *j = png_get_error_ptr(p);
    snprintf(j->why, sizeof j->why, "%s", text);
    png_longjmp(p, 1);
}

static void png_quiet(png_structp p, png_const_charp text)
{
    (void)p, (void)text;
}

static void png_take(png_structp p, png_bytep to, size_t n)
{
    png_job *j = png_get_io_ptr(p);
    if (n > j->in->n - j->at) {
        j->starved = true;
        png_error(p, "ends early");
    }
    memcpy(to, j->in->data + j->at, n);
    j->at += n;
}

/* One row of samples, a byte each (two if depth is 16, the upper first) -> RGB. */
static void png_row(const png_job *j, const uint8_t *from, uint8_t *to)
{
    const int wide = j->depth == 16 ? 2 : 1, step = j->samples * wide;
    const int grey = j->depth < 8 ? 255 / ((1 << j->depth) - 1) : 1;
    for (int64_t x = 0; x < j->image->width; x++, from += step, to += 3) {
        if (j->kind == PNG_COLOR_TYPE_PALETTE) {
            memcpy(to, j->palette[from[0]], 3);
        } else if (j->kind & PNG_COLOR_MASK_COLOR) {
            for (int k = 0; k < 3; k++)
                to[k] = from[k * wide];
        } else {
            bool over = j->kind == PNG_COLOR_TYPE_GRAY && wide == 2;
            int v = !over ? from[0] * grey : from[0] ? 255 : from[1];
            to[0] = to[1] = to[2] = (uint8_t)v;
        }
    }
}

static void png_begin(png_job *j)
{
    png_colorp colour = NULL;
    int colours = 0;
    j->kind = png_get_color_type(j->p, j->info);
    j->depth = png_get_bit_depth(j->p, j->info);
    j->samples = png_get_channels(j->p, j->info);
    for (int i = 0; i < 256; i++)
        memset(j->palette[i], i, 3); /* what Pillow has where the file's palette ends */
    if (j->kind == PNG_COLOR_TYPE_PALETTE) png_get_PLTE(j->p, j->info, &colour, &colours);
    for (int i = 0; i < colours; i++)
        memcpy(j->palette[i], (uint8_t[]){colour[i].red, colour[i].green, colour[i].blue}, 3);
    png_bytep exif;
    png_uint_32 n;
    if (j->in->how->exif && png_get_eXIf_1(j->p, j->info, &n, &exif))
        j->in->orientation = st_image_orientation(exif, n);
    png_set_packing(j->p);
}

static void png_limits(png_job *j)
{
    static const png_byte exif[] = "eXIf";
    png_set_user_limits(j->p, PNG_UINT_31_MAX, PNG_UINT_31_MAX); /* st_image_start knows better */
    png_set_crc_action(j->p, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
    png_set_chunk_malloc_max(j->p, 1 << 20);
    /* Of chunks that are not the picture nothing is unpacked. */
    png_set_keep_unknown_chunks(j->p, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
    if (j->in->how->exif) png_set_keep_unknown_chunks(j->p, PNG_HANDLE_CHUNK_AS_DEFAULT, exif, 1);
}

/* Everything that may longjmp. True when j->image is whole. */
static bool png_decode(png_job *j)
{
    if (setjmp(png_jmpbuf(j->p))) return false;
    png_set_read_fn(j->p, j, png_take);
    png_limits(j);
    png_read_info(j->p, j->info);
    j->status = st_image_start(j->image, png_get_image_width(j->p, j->info),
                               png_get_image_height(j->p, j->info), j->in, j->e);
    if (j->status) return false;
    png_begin(j);
    int passes = png_set_interlace_handling(j->p);
    png_read_update_info(j->p, j->info);
    j->stride = (int64_t)png_get_rowbytes(j->p, j->info);
    j->raw = st_calloc(j->stride * (passes > 1 ? j->image->height : 1), 1);
    if (!j->raw) png_error(j->p, "out of memory");
    for (int pass = 0; pass < passes; pass++) {
        for (int64_t y = 0; y < j->image->height; y++) {
            uint8_t *row = j->raw + (passes > 1 ? y * j->stride : 0);
            png_read_row(j->p, row, NULL);
            if (pass == passes - 1) png_row(j, row, j->image->rgb + y * j->image->width * 3);
        }
    }
    return true; /* what follows the pixels is nobody's concern */
}

st_status st_image_png(st_image *out, st_image_source *in, st_err *e)
{
    png_job j = {.in = in, .image = out, .e = e};
    *out = (st_image){0};
    j.p = png_create_read_struct(PNG_LIBPNG_VER_STRING, &j, png_quit, png_quiet);
    if (j.p) j.info = png_create_info_struct(j.p);
    st_status s = ST_OK;
    if (!j.info) {
        s = ST_NOMEM(e, in->name);
    } else if (!png_decode(&j)) {
        s = j.status;
        if (!s && j.starved) {
            s = ST_ERR(e, ST_EFORMAT,
                       "%s: a PNG that ends early, after %zu bytes; fetch or copy it again",
                       in->name, in->n);
        }
        if (!s) {
            s = ST_ERR(e, ST_EFORMAT, "%s: not a PNG that can be read: %s", in->name, j.why);
        }
    }
    png_destroy_read_struct(&j.p, &j.info, NULL);
    free(j.raw);
    if (s) st_image_free(out);
    return s;
}
