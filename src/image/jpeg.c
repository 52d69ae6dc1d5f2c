/* JPEG over libjpeg-turbo, with what Pillow asks of it: the accurate integer DCT, smooth
 * upsampling, one decoding pass. Pictures of four components are taken as inverted CMYK (Adobe's
 * way). */
/* SPDX-License-Identifier: MIT */
#include "image/codec.h"
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

#include <jerror.h>

/* A progressive picture may say little in many scans, each over all of its pixels. */
enum { JPEG_SCANS = 16, JPEG_SCANS_MOST = 500 };
static const int64_t JPEG_SCANNED = (int64_t)1 << 30; /* pixels of all scans */
static const long JPEG_MEMORY = 1L << 30;             /* bytes inside the library */

typedef struct {
    struct jpeg_decompress_struct c;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf out;
    char why[JMSG_LENGTH_MAX];
    st_image_source *in;
    st_image *image;
    uint8_t *row; /* of one or four components */
    st_status status;
    st_err *e;
} jpeg_job;

static void jpeg_quit(j_common_ptr c)
{
    jpeg_job *j = c->client_data;
    c->err->format_message(c, j->why);
    longjmp(j->out, 1);
}

static void jpeg_quiet(j_common_ptr c, int level)
{
    (void)c, (void)level; /* warnings: as in Pillow, what can be decoded is */
}

static boolean jpeg_starved(j_decompress_ptr c)
{
    ERREXIT(c, JERR_INPUT_EOF);
    return FALSE;
}

static void jpeg_scan(j_common_ptr c)
{
    jpeg_job *j = c->client_data;
    int64_t scan = j->c.input_scan_number, pixels = j->image->width * j->image->height;
    if (scan <= JPEG_SCANS || (scan <= JPEG_SCANS_MOST && scan * pixels <= JPEG_SCANNED)) return;
    snprintf(j->why, sizeof j->why, "%lld scans of %lld pixels, more than any camera writes",
             (long long)scan, (long long)pixels);
    longjmp(j->out, 1);
}

/* Orientation from the first APP1 that is EXIF. */
static int jpeg_orientation(const jpeg_job *j)
{
    for (jpeg_saved_marker_ptr m = j->c.marker_list; m; m = m->next) {
        if (m->data_length >= 6 && !memcmp(m->data, "Exif\0", 6))
            return st_image_orientation(m->data + 6, m->data_length - 6);
    }
    return 1;
}

/* c, m, y, k inverted -> (255 - k)(1 - c) ..., rounded as Pillow's MULDIV255 does. */
static void jpeg_cmyk(const uint8_t *from, uint8_t *to, int64_t width)
{
    for (int64_t x = 0; x < width; x++, from += 4, to += 3) {
        int white = from[3];
        for (int k = 0; k < 3; k++) {
            int t = (255 - from[k]) * white + 128;
            to[k] = (uint8_t)(white - (((t >> 8) + t) >> 8));
        }
    }
}

static void jpeg_grey(const uint8_t *from, uint8_t *to, int64_t width)
{
    for (int64_t x = 0; x < width; x++, to += 3)
        to[0] = to[1] = to[2] = from[x];
}

/* Everything that may longjmp. True when j->image is whole. */
static bool jpeg_decode(jpeg_job *j)
{
    struct jpeg_decompress_struct *c = &j->c;
    if (setjmp(j->out)) return false;
    jpeg_create_decompress(c);
    c->mem->max_memory_to_use = JPEG_MEMORY;
    jpeg_mem_src(c, j->in->data, j->in->n);
    c->src->fill_input_buffer = jpeg_starved;
    if (j->in->how->exif) jpeg_save_markers(c, JPEG_APP0 + 1, 0xFFFF);
    jpeg_read_header(c, TRUE);
    if (c->num_components != 1 && c->num_components != 3 && c->num_components != 4) {
        snprintf(j->why, sizeof j->why, "%d components, expected 1, 3 or 4", c->num_components);
        return false;
    }
    j->status = st_image_start(j->image, c->image_width, c->image_height, j->in, j->e);
    if (j->status) return false;
    j->in->orientation = jpeg_orientation(j);
    c->progress = &j->progress;
    c->out_color_space = c->num_components == 1   ? JCS_GRAYSCALE
                         : c->num_components == 3 ? JCS_RGB
                                                  : JCS_CMYK;
    c->dct_method = JDCT_ISLOW;
    c->do_fancy_upsampling = TRUE;
    jpeg_start_decompress(c);
    if (c->output_components != 3) j->row = malloc((size_t)c->output_width * 4);
    if (c->output_components != 3 && !j->row) ERREXIT1(c, JERR_OUT_OF_MEMORY, 0);
    while (c->output_scanline < c->output_height) {
        uint8_t *to = j->image->rgb + (int64_t)c->output_scanline * j->image->width * 3;
        JSAMPROW at = j->row ? j->row : to;
        jpeg_read_scanlines(c, &at, 1);
        if (c->output_components == 1) jpeg_grey(j->row, to, j->image->width);
        if (c->output_components == 4) jpeg_cmyk(j->row, to, j->image->width);
    }
    jpeg_finish_decompress(c);
    return true;
}

st_status st_image_jpeg(st_image *out, st_image_source *in, st_err *e)
{
    jpeg_job *j = st_calloc(1, sizeof *j);
    if (!j) return ST_NOMEM(e, in->name);
    *out = (st_image){0};
    j->in = in;
    j->image = out;
    j->e = e;
    j->c.err = jpeg_std_error(&j->errors);
    j->errors.error_exit = jpeg_quit;
    j->errors.emit_message = jpeg_quiet;
    j->progress.progress_monitor = jpeg_scan;
    j->c.client_data = j;
    bool ok = jpeg_decode(j);
    st_status s = ok ? ST_OK : j->status;
    if (!ok && !s) {
        s = j->errors.msg_code == JERR_INPUT_EOF
                ? ST_ERR(e, ST_EFORMAT,
                         "%s: a JPEG that ends early, after %zu bytes; fetch or copy it again",
                         in->name, in->n)
                : ST_ERR(e, ST_EFORMAT, "%s: not a JPEG that can be read: %s", in->name, j->why);
    }
    jpeg_destroy_decompress(&j->c);
    free(j->row);
    free(j);
    if (s) st_image_free(out);
    return s;
}
