/* Any bytes as a picture: pixels or an error; pixels become a network's planes. The last byte
 * chooses whether EXIF counts. */
/* SPDX-License-Identifier: MIT */
#include "image/image.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static float planes[3 * 32 * 32];
    st_image_how how = {.max_pixels = 1 << 20, .exif = n && data[n - 1] & 1};
    st_image_fit fit = {.size = 32, .filter = ST_BICUBIC, .crop = 0.9, .std = {1, 1, 1}};
    st_image im;
    st_err e;
    if (st_image_decode(&im, data, n, "x", &how, &e)) {
        if (im.rgb) abort();
        return 0;
    }
    if (im.width < 1 || im.height < 1 || im.width * im.height > how.max_pixels) abort();
    if (st_image_planes(&im, &fit, planes, &e)) abort();
    for (size_t i = 0; i < sizeof planes / sizeof *planes; i++)
        if (!(planes[i] >= 0.0f && planes[i] <= 1.0f)) abort();
    st_image_free(&im);
    return 0;
}
