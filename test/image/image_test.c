/* Pictures: the pixels of Pillow, and what broken and hostile files get. Fixtures:
 * tools/fixtures_images.py. */
/* SPDX-License-Identifier: MIT */
#include "hub/hub.h"
#include "image/image.h"
#include "testing.h"
#include <math.h>
#include <zlib.h>

#define DIR "test/fixtures/images"

static json_t *cases(void)
{
    json_t *all;
    st_err e = {0};
    assert_ok(st_json_load(&all, DIR "/cases.json", 1 << 20, &e), &e);
    return all;
}

/* The first 16 digits of SHA-256. */
static const char *hash(const void *data, size_t n)
{
    static char hex[65];
    st_digest *d;
    st_err e = {0};
    assert_ok(st_digest_open(&d, "sha256", &e), &e);
    assert_ok(st_digest_add(d, data, n, &e), &e);
    assert_ok(st_digest_end(d, hex, &e), &e);
    hex[16] = '\0';
    return hex;
}

static const char *text_at(const json_t *row, size_t i)
{
    return json_string_value(json_array_get(row, i));
}

static int64_t int_at(const json_t *row, size_t i)
{
    return json_integer_value(json_array_get(row, i));
}

static char *fixture(const char *name, size_t *n)
{
    char *data = st_test_read(st_test_path(DIR, name), n);
    assert_non_null(data);
    return data;
}

/* What the script calls texture. */
static st_image texture(int64_t w, int64_t h)
{
    st_image i = {.width = w, .height = h, .rgb = malloc((size_t)(w * h * 3))};
    assert_non_null(i.rgb);
    for (int64_t n = 0; n < w * h * 3; n++) {
        int64_t k = n % 3, x = n / 3 % w, y = n / 3 / w;
        int64_t v = x * x * 3 + y * y * 5 + x * y * 7 + k * 85 + ((x >> 3) ^ (y >> 3)) * 37;
        i.rgb[n] = (uint8_t)(v & 255);
    }
    return i;
}

static st_filter filter(const char *name)
{
    return strcmp(name, "bilinear") == 0 ? ST_BILINEAR : ST_BICUBIC;
}

static void pixels_are_pillows(void **state)
{
    json_t *all = cases(), *row;
    size_t i, n;
    (void)state;
    assert_true(json_array_size(json_object_get(all, "files")) > 50);
    json_array_foreach(json_object_get(all, "files"), i, row)
    {
        st_err e = {0};
        st_image im;
        char *data = fixture(text_at(row, 0), &n);
        assert_true(st_image_is(data, n));
        assert_ok(st_image_decode(&im, data, n, text_at(row, 0), NULL, &e), &e);
        if (strcmp(hash(im.rgb, (size_t)(im.width * im.height * 3)), text_at(row, 3)) != 0)
            fail_msg("%s: other pixels than Pillow's", text_at(row, 0));
        assert_int_equal(im.width, int_at(row, 1));
        assert_int_equal(im.height, int_at(row, 2));
        st_image_free(&im);
        st_image_how how = {.exif = true};
        assert_ok(st_image_decode(&im, data, n, text_at(row, 0), &how, &e), &e);
        if (strcmp(hash(im.rgb, (size_t)(im.width * im.height * 3)), text_at(row, 4)) != 0)
            fail_msg("%s: not turned as Pillow does", text_at(row, 0));
        st_image_free(&im);
        free(data);
    }
    json_decref(all);
}

static void resize_is_pillows(void **state)
{
    json_t *all = cases(), *row;
    size_t i;
    (void)state;
    assert_int_equal(json_array_size(json_object_get(all, "resize")), 200);
    json_array_foreach(json_object_get(all, "resize"), i, row)
    {
        st_err e = {0};
        st_image from = texture(int_at(row, 0), int_at(row, 1)), to;
        int64_t w = int_at(row, 2), h = int_at(row, 3);
        assert_ok(st_image_resize(&to, &from, w, h, filter(text_at(row, 4)), &e), &e);
        assert_string_equal(hash(to.rgb, (size_t)(w * h * 3)), text_at(row, 5));
        st_image_free(&from);
        st_image_free(&to);
    }
    json_decref(all);
}

static st_image_fit fit(int64_t size, double crop, st_filter kind)
{
    return (st_image_fit){.size = size,
                          .filter = kind,
                          .crop = crop,
                          .mean = {0.485f, 0.456f, 0.406f},
                          .std = {0.229f, 0.224f, 0.225f}};
}

static void planes_are_torchvisions(void **state)
{
    json_t *all = cases(), *row;
    size_t i;
    (void)state;
    assert_true(json_array_size(json_object_get(all, "planes")) > 20);
    json_array_foreach(json_object_get(all, "planes"), i, row)
    {
        st_err e = {0};
        st_image from = texture(int_at(row, 0), int_at(row, 1));
        int64_t size = int_at(row, 2);
        st_image_fit f =
            fit(size, json_number_value(json_array_get(row, 3)), filter(text_at(row, 4)));
        float *planes = malloc((size_t)(3 * size * size) * sizeof *planes);
        assert_ok(st_image_planes(&from, &f, planes, &e), &e);
        if (strcmp(hash(planes, (size_t)(3 * size * size) * 4), text_at(row, 5)) != 0)
            fail_msg("%lld x %lld, size %lld: other numbers than torchvision's",
                     (long long)from.width, (long long)from.height, (long long)size);
        free(planes);
        st_image_free(&from);
    }
    json_decref(all);
}

/* A picture one pixel wide would be 16 million pixels long before it is cropped. */
static void long_pictures_are_not_made_longer(void **state)
{
    st_err e = {0};
    st_image from = texture(1, 65000);
    st_image_fit f = fit(224, 0.9, ST_BICUBIC);
    float *planes = malloc(3 * 224 * 224 * sizeof *planes);
    (void)state;
    assert_ok(st_image_planes(&from, &f, planes, &e), &e);
    st_image_free(&from);
    free(planes);
}

static void fits_are_checked(void **state)
{
    st_err e = {0};
    st_image_fit f = fit(0, 0.9, ST_BICUBIC);
    (void)state;
    assert_st(st_image_check_fit(&f, &e), ST_EARG, &e);
    f = fit(224, 0.0, ST_BICUBIC);
    assert_st(st_image_check_fit(&f, &e), ST_EARG, &e);
    f = fit(224, (double)NAN, ST_BICUBIC);
    assert_st(st_image_check_fit(&f, &e), ST_EARG, &e);
    f = fit(224, 1e-9, ST_BICUBIC);
    assert_st(st_image_check_fit(&f, &e), ST_EARG, &e);
    f = fit(224, 0.9, ST_BICUBIC);
    f.std[1] = 0.0f;
    assert_st(st_image_check_fit(&f, &e), ST_EARG, &e);
    assert_says(&e, "channel 1");
    f.std[1] = 1.0f;
    assert_ok(st_image_check_fit(&f, &e), &e);
}

/* ---- broken files ---------------------------------------------------------------------------- */

static void refused(const void *data, size_t n, const char *says)
{
    st_err e = {0};
    st_image im;
    /* A copy of just that size, so that a sanitizer sees reads beyond it. */
    char *copy = malloc(n ? n : 1);
    if (n) memcpy(copy, data, n);
    st_status s = st_image_decode(&im, copy, n, "some.jpg", NULL, &e);
    free(copy);
    if (!s) fail_msg("accepted, expected: %s", says);
    assert_null(im.rgb);
    assert_says(&e, "some.jpg: ");
    assert_says(&e, says);
}

static void every_truncation_is_refused(void **state)
{
    static const char *const names[] = {
        "rgb-420-17x9.jpg", "grey-progressive.jpg",    "ycck.jpg", "exif-6.jpg", "rgb-16.png",
        "exif-8.png",       "palette-4-interlaced.png"};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        size_t n;
        char *data = fixture(names[i], &n);
        /* Of a PNG the end chunk, 12 bytes, may be missing. */
        size_t end = strstr(names[i], ".png") ? n - 12 : n;
        for (size_t k = 0; k < end; k++)
            refused(data, k, k == 0 ? "is empty" : k < 2 ? "neither" : "");
        free(data);
    }
}

static void crc_of(uint8_t *chunk, size_t length)
{
    uint32_t crc = (uint32_t)crc32(0, chunk + 4, (uInt)length + 4);
    for (int k = 0; k < 4; k++)
        chunk[8 + length + (size_t)k] = (uint8_t)(crc >> (24 - 8 * k));
}

/* Width and height in the header of a PNG. */
static void png_size(char *data, uint32_t w, uint32_t h)
{
    uint8_t *p = (uint8_t *)data + 16;
    for (int k = 0; k < 4; k++) {
        p[k] = (uint8_t)(w >> (24 - 8 * k));
        p[4 + k] = (uint8_t)(h >> (24 - 8 * k));
    }
    crc_of((uint8_t *)data + 8, 13);
}

/* Height and width in the frame header of a JPEG (SOF0 or SOF2). */
static void jpeg_size(char *data, size_t n, int w, int h)
{
    for (size_t i = 2; i + 9 < n; i++) {
        uint8_t *p = (uint8_t *)data + i;
        if (p[0] != 0xff || (p[1] != 0xc0 && p[1] != 0xc2) || p[2] != 0) continue;
        p[5] = (uint8_t)(h >> 8), p[6] = (uint8_t)h;
        p[7] = (uint8_t)(w >> 8), p[8] = (uint8_t)w;
        return;
    }
    fail_msg("no frame header");
}

static void huge_sizes_are_refused_at_once(void **state)
{
    size_t n;
    char *png = fixture("rgb-8.png", &n);
    (void)state;
    png_size(png, 100000, 100000);
    refused(png, n, "100000 x 100000 pixels, at most 89478485");
    png_size(png, 0x7fffffff, 0x7fffffff);
    refused(png, n, "2147483647 x 2147483647");
    png_size(png, 0, 5);
    refused(png, n, "PNG");
    png_size(png, 0xffffffff, 1);
    refused(png, n, "PNG");
    free(png);
    char *jpeg = fixture("grey.jpg", &n);
    jpeg_size(jpeg, n, 65535, 65535);
    refused(jpeg, n, "65500");
    jpeg_size(jpeg, n, 65000, 65000);
    refused(jpeg, n, "65000 x 65000 pixels");
    jpeg_size(jpeg, n, 0, 0);
    refused(jpeg, n, "JPEG");
    free(jpeg);
    jpeg = fixture("rgb-420-17x9.jpg", &n);
    st_err e = {0};
    st_image im;
    st_image_how few = {.max_pixels = 100};
    assert_st(st_image_decode(&im, jpeg, n, "x", &few, &e), ST_EFORMAT, &e);
    assert_says(&e, "17 x 9 pixels, at most 100");
    free(jpeg);
}

/* One scan, which says little, over and over. */
static void endless_scans_are_refused(void **state)
{
    size_t n, scan;
    char *jpeg = fixture("grey-progressive.jpg", &n);
    (void)state;
    for (scan = n - 2; memcmp(jpeg + scan, "\xff\xda", 2) != 0;)
        scan--;
    size_t length = n - 2 - scan, copies = 600;
    char *bomb = malloc(n + copies * length);
    memcpy(bomb, jpeg, n - 2);
    for (size_t i = 0; i < copies; i++)
        memcpy(bomb + n - 2 + i * length, jpeg + scan, length);
    memcpy(bomb + n - 2 + copies * length, jpeg + n - 2, 2);
    refused(bomb, n + copies * length, "scans");
    free(bomb);
    free(jpeg);
}

/* `kind` chunk of zeros, `size` of them when unpacked, after the header of grey-8.png. */
static char *png_with(const char *kind, const char *lead, size_t lead_n, size_t size, size_t *n)
{
    size_t from;
    uLongf packed = compressBound((uLong)size);
    char *png = fixture("grey-8.png", &from), *out = malloc(from + packed + lead_n + 12);
    uint8_t *zeros = calloc(size, 1), *chunk = (uint8_t *)out + 33;
    memcpy(out, png, 33);
    memcpy(chunk + 4, kind, 4);
    memcpy(chunk + 8, lead, lead_n);
    assert_int_equal(compress2(chunk + 8 + lead_n, &packed, zeros, (uLong)size, 9), Z_OK);
    size_t length = lead_n + packed;
    for (int k = 0; k < 4; k++)
        chunk[k] = (uint8_t)(length >> (24 - 8 * k));
    crc_of(chunk, length);
    memcpy(chunk + 12 + length, png + 33, from - 33);
    *n = from + length + 12;
    free(zeros);
    free(png);
    return out;
}

/* Texts and colour profiles that unpack to much are passed over; pixels beyond the last row too. */
static void bombs_do_nothing(void **state)
{
    static const struct {
        const char *kind, *lead;
        size_t n;
    } bomb[] = {{"iCCP", "x\0", 3}, {"zTXt", "x\0", 3}, {"iTXt", "x\0\1\0\0", 6}, {"IDAT", "", 0}};
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        size_t n;
        st_err e = {0};
        st_image im;
        char *png = png_with(bomb[i].kind, bomb[i].lead, bomb[i].n, 16 << 20, &n);
        assert_ok(st_image_decode(&im, png, n, "x", NULL, &e), &e);
        assert_int_equal(im.width, 9);
        st_image_free(&im);
        free(png);
    }
}

static void corruption_is_seen(void **state)
{
    size_t n;
    char *png = fixture("rgb-8-gamma.png", &n);
    (void)state;
    png[33 + 8] ^= 1;
    refused(png, n, "gAMA: CRC error");
    png[33 + 8] ^= 1;
    for (size_t i = 33; i < n - 12; i++) { /* between the header and the end */
        png[i] ^= 1;
        refused(png, n, "PNG");
        png[i] ^= 1;
    }
    free(png);
    refused("GIF89a......", 12, "GIF cannot be read, expected JPEG or PNG");
    refused("RIFF1234WEBPVP8 ", 16, "WebP cannot be read");
    refused("Now is the time", 15, "neither JPEG nor PNG");
    refused("\xff\xd8\xff\xd9", 4, "JPEG");
}

/* Any one byte of the EXIF part may be anything. */
static void bad_exif_is_harmless(void **state)
{
    size_t n;
    char *jpeg = fixture("exif-6.jpg", &n), *exif = memmem(jpeg, n, "Exif", 4);
    st_image_how how = {.exif = true};
    (void)state;
    assert_non_null(exif);
    for (int i = 0; i < 32; i++) {
        for (int v = 0; v < 256; v += 5) {
            char was = exif[i];
            st_image im;
            st_err e = {0};
            exif[i] = (char)v;
            assert_ok(st_image_decode(&im, jpeg, n, "x", &how, &e), &e);
            assert_int_equal(im.width * im.height, 130);
            st_image_free(&im);
            exif[i] = was;
        }
    }
    free(jpeg);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pixels_are_pillows),
        cmocka_unit_test(resize_is_pillows),
        cmocka_unit_test(planes_are_torchvisions),
        cmocka_unit_test(long_pictures_are_not_made_longer),
        cmocka_unit_test(fits_are_checked),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(huge_sizes_are_refused_at_once),
        cmocka_unit_test(endless_scans_are_refused),
        cmocka_unit_test(bombs_do_nothing),
        cmocka_unit_test(corruption_is_seen),
        cmocka_unit_test(bad_exif_is_harmless),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
