/* Pictures: what a file is, its size against the limits, the way up. */
/* SPDX-License-Identifier: MIT */
#include "image/codec.h"
#include <stdlib.h>
#include <string.h>

/* Pillow warns of a "decompression bomb" from here on. */
static const int64_t IMAGE_PIXELS = 89478485;

void st_image_free(st_image *i)
{
    free(i->rgb);
    *i = (st_image){0};
}

st_status st_image_start(st_image *out, int64_t width, int64_t height, const st_image_source *in,
                         st_err *e)
{
    int64_t most = in->how->max_pixels ? in->how->max_pixels : IMAGE_PIXELS;
    if (width < 1 || height < 1) {
        ST_FAIL(e, ST_EFORMAT, "%s: a picture of %lld x %lld pixels", in->name, (long long)width,
                (long long)height);
    }
    if (width > most / height) {
        ST_FAIL(e, ST_EFORMAT,
                "%s: %lld x %lld pixels, at most %lld in all are read; make it smaller first",
                in->name, (long long)width, (long long)height, (long long)most);
    }
    *out =
        (st_image){.width = width, .height = height, .rgb = malloc((size_t)(width * height * 3))};
    if (out->rgb) return ST_OK;
    ST_FAIL(e, ST_ENOMEM, "%s: out of memory for %lld x %lld pixels", in->name, (long long)width,
            (long long)height);
}

/* ---- the way up ------------------------------------------------------------------------------ */

static uint32_t image_number(const uint8_t *p, int bytes, bool big)
{
    uint32_t v = 0;
    for (int i = 0; i < bytes; i++)
        v = v << 8 | p[big ? i : bytes - 1 - i];
    return v;
}

int st_image_orientation(const uint8_t *t, size_t n)
{
    enum { ENTRY = 12, TAG = 0x0112, SHORT = 3 };
    if (n < 8 || (memcmp(t, "II*\0", 4) != 0 && memcmp(t, "MM\0*", 4) != 0)) return 1;
    bool big = t[0] == 'M';
    size_t at = image_number(t + 4, 4, big);
    if (at > n - 2) return 1;
    size_t entries = image_number(t + at, 2, big);
    for (at += 2; entries && at + ENTRY <= n; entries--, at += ENTRY) {
        if (image_number(t + at, 2, big) != TAG) continue;
        uint32_t v = image_number(t + at + 8, 2, big);
        return image_number(t + at + 2, 2, big) == SHORT && v >= 1 && v <= 8 ? (int)v : 1;
    }
    return 1;
}

/* Turns and mirrors as EXIF's orientation says: 2 to 4 keep rows, 5 to 8 exchange them with
 * columns. */
static st_status image_turn(st_image *i, int orientation, const char *name, st_err *e)
{
    if (orientation <= 1) return ST_OK;
    const bool cross = orientation >= 5;
    const bool flip_x =
        orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7;
    const bool flip_y =
        orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8;
    int64_t w = cross ? i->height : i->width, h = cross ? i->width : i->height;
    uint8_t *to = malloc((size_t)(w * h * 3));
    if (!to) ST_FAIL(e, ST_ENOMEM, "%s: out of memory to turn it", name);
    for (int64_t y = 0; y < h; y++) {
        for (int64_t x = 0; x < w; x++) {
            int64_t fx = flip_x ? w - 1 - x : x, fy = flip_y ? h - 1 - y : y;
            int64_t from = cross ? fx * i->width + fy : fy * i->width + fx;
            memcpy(to + (y * w + x) * 3, i->rgb + from * 3, 3);
        }
    }
    free(i->rgb);
    *i = (st_image){.width = w, .height = h, .rgb = to};
    return ST_OK;
}

/* ---- what it is ------------------------------------------------------------------------------ */

/* First bytes of the formats that a picture may be in; `at` 8: RIFF's kind. */
static const struct {
    const char *name, *magic;
    size_t n, at;
} image_kinds[] = {
    {"JPEG", "\xff\xd8\xff", 3, 0},
    {"PNG", "\x89PNG\r\n\x1a\n", 8, 0},
    {"GIF", "GIF8", 4, 0},
    {"BMP", "BM", 2, 0},
    {"TIFF", "II*\0", 4, 0},
    {"TIFF", "MM\0*", 4, 0},
    {"WebP", "WEBP", 4, 8},
    {"HEIF", "ftyp", 4, 4},
    {"JPEG 2000", "\0\0\0\x0cjP  ", 8, 0},
    {"JPEG XL", "\0\0\0\x0cJXL ", 8, 0},
    {"JPEG XL", "\xff\x0a", 2, 0},
    {"Photoshop", "8BPS", 4, 0},
    {"PDF", "%PDF", 4, 0},
};
enum { IMAGE_KINDS = sizeof image_kinds / sizeof *image_kinds, IMAGE_READ = 2 };

static int image_kind(const uint8_t *data, size_t n)
{
    for (int k = 0; k < IMAGE_KINDS; k++) {
        size_t at = image_kinds[k].at;
        if (n >= at + image_kinds[k].n &&
            !memcmp(data + at, image_kinds[k].magic, image_kinds[k].n))
            return k;
    }
    return IMAGE_KINDS;
}

bool st_image_is(const void *data, size_t n)
{
    return image_kind(data, n) < IMAGE_READ;
}

st_status st_image_decode(st_image *out, const void *data, size_t n, const char *name,
                          const st_image_how *how, st_err *e)
{
    static const st_image_how plain = {0};
    st_image_source in = {.data = data, .n = n, .name = name, .how = how ? how : &plain};
    *out = (st_image){0};
    int kind = image_kind(data, n);
    if (n == 0) ST_FAIL(e, ST_EFORMAT, "%s: is empty, expected a JPEG or PNG picture", name);
    if (kind == IMAGE_KINDS) {
        ST_FAIL(e, ST_EFORMAT, "%s: neither JPEG nor PNG, nor any picture that strut knows", name);
    }
    if (kind >= IMAGE_READ) {
        ST_FAIL(e, ST_EUNSUPPORTED, "%s: %s cannot be read, expected JPEG or PNG; convert it", name,
                image_kinds[kind].name);
    }
    ST_TRY(kind == 0 ? st_image_jpeg(out, &in, e) : st_image_png(out, &in, e));
    st_status s = image_turn(out, in.orientation, name, e);
    if (s) st_image_free(out);
    return s;
}
