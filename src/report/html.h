/* html: pieces of a self-contained page (no network, works from file://). Inner header of report.
 */
/* SPDX-License-Identifier: MIT */
#ifndef ST_REPORT_HTML_H
#define ST_REPORT_HTML_H

#include "chart/chart.h"

/* Everything that is not constant goes through here: & < > " ' become references, control
 * characters and bytes that are not UTF-8 become U+FFFD. NULL writes nothing. */
void st_html_text(FILE *f, const char *text);
/* Page up to and with <main>, with style (light and dark) and the script that sorts tables. */
#define ST_HTML_MARK "<meta name=\"generator\" content=\"strut\">" /* in the head of every page */
bool st_html_ours(const char *path);                               /* is there such a page? */
void st_html_begin(FILE *f, const char *title);
void st_html_end(FILE *f);
/* A place of a figure that leads somewhere: x, y from 0 to 1, from the left and the top. */
typedef struct {
    double x, y;
    char *href, *title; /* NULL: none */
} st_html_link;
/* A figure drawn for light and for dark pages, as data URIs; `alt` for those who cannot see it,
 * `caption` below it, links over it. */
st_status st_html_figure(FILE *f, const st_plot *p, const char *alt, const char *caption,
                         const st_html_link *link, size_t links, st_err *e);

/* Cells of a sortable table (class "sort"): numbers sort by `v`, "n/a" last. */
void st_html_number(FILE *f, double v, int digits, bool best);

#endif
