/* Axes: round limits, round tick values, short tick texts. */
/* SPDX-License-Identifier: MIT */
#include "chart/pen.h"
#include <math.h>
#include <string.h>

double st_axis_place(const st_axis *a, double v)
{
    if (a->log) return (log(v) - log(a->lo)) / (log(a->hi) - log(a->lo));
    return (v - a->lo) / (a->hi - a->lo);
}

/* Puts a comma after every third digit from the right of the leading run of digits. */
static void ticks_group(char text[24])
{
    char from[24];
    memcpy(from, text, sizeof from);
    const char *p = from;
    size_t digits, at = 0;
    if (*p == '-') text[at++] = *p++;
    digits = strspn(p, "0123456789");
    for (size_t i = 0; i < digits && at < 22; i++) {
        if (i && (digits - i) % 3 == 0 && digits > 4) text[at++] = ',';
        if (at < 22) text[at++] = p[i];
    }
    for (p += digits; *p && at < 22; p++)
        text[at++] = *p;
    text[at] = 0;
}

void st_format_number(char out[24], double v, int digits)
{
    double size = fabs(v);
    const char *suffix = "";
    if (!isfinite(v)) {
        snprintf(out, 24, "%s", isnan(v) ? "n/a" : v < 0 ? "-inf" : "inf");
        return;
    }
    if (size >= 1e16 || (size > 0 && size < 1e-6)) {
        snprintf(out, 24, "%.*e", digits > 1 ? digits - 1 : 0, v);
        return;
    }
    if (size >= 999.5e6 && digits < 10)
        v /= 1e9, suffix = "G";
    else if (size >= 999.5e3 && digits < 7)
        v /= 1e6, suffix = "M";
    else if (size >= 99950 && digits < 6)
        v /= 1e3, suffix = "k";
    size = fabs(v);
    int whole = size >= 1 ? (int)floor(log10(size) + 1e-12) + 1 : 1;
    if (size > 0 && size < 1) whole = (int)floor(log10(size) + 1e-12) + 1;
    int places = digits - whole;
    if (places < 0 || (size == floor(size) && !*suffix)) places = 0;
    snprintf(out, 20, "%.*f", places, v);
    ticks_group(out);
    strncat(out, suffix, 24 - strlen(out) - 1);
}

/* The smallest of 1, 2, 2.5, 5 x 10^k that is >= step. */
static double ticks_step(double step)
{
    static const double round[] = {1, 2, 2.5, 5, 10};
    double power = pow(10, floor(log10(step)));
    for (int i = 0; i < 5; i++)
        if (round[i] * power >= step * (1 - 1e-9)) return round[i] * power;
    return 10 * power;
}

static void ticks_add(st_axis *a, double v)
{
    if (a->n < ST_TICKS) a->tick[a->n++] = v;
}

static void ticks_linear(st_axis *a, bool fixed, double most)
{
    double step = ticks_step((a->hi - a->lo) / (most < 1 ? 1 : most));
    if (!fixed) {
        a->lo = floor(a->lo / step + 1e-9) * step;
        a->hi = ceil(a->hi / step - 1e-9) * step;
    }
    for (double i = ceil(a->lo / step - 1e-9); i * step <= a->hi + step * 1e-9; i++) {
        ticks_add(a, fabs(i) < 0.5 ? 0 : i * step);
        if (a->n == ST_TICKS) break;
    }
}

/* Mantissa sets of a log axis, densest first; then every second, third, ... power of ten. */
static const double ticks_mantissa[][10] = {{1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 0},
                                            {1, 1.5, 2, 3, 4, 5, 7, 0},
                                            {1, 2, 3, 5, 7, 0},
                                            {1, 2, 5, 0},
                                            {1, 3, 0},
                                            {1, 0}};
enum { TICKS_SETS = sizeof ticks_mantissa / sizeof *ticks_mantissa };

/* Fills the ticks of one set; false if two come closer than `apart` pixels. */
static bool ticks_log_set(st_axis *a, const double *mantissa, int stride, double pixels,
                          double apart)
{
    double last = -1e9, from = floor(floor(log10(a->lo)) / stride) * stride;
    a->n = 0;
    for (double k = from; k <= log10(a->hi) + 1e-9; k += stride) {
        for (int i = 0; mantissa[i] > 0; i++) {
            double v = mantissa[i] * pow(10, k), at = st_axis_place(a, v) * pixels;
            if (v < a->lo * (1 - 1e-9) || v > a->hi * (1 + 1e-9)) continue;
            if (at - last < apart || a->n == ST_TICKS) return false;
            ticks_add(a, v);
            last = at;
        }
    }
    return a->n > 0;
}

static void ticks_log(st_axis *a, double pixels, double apart)
{
    for (int s = 0; s < TICKS_SETS; s++)
        if (ticks_log_set(a, ticks_mantissa[s], 1, pixels, apart)) return;
    for (int stride = 2; stride < 700; stride++)
        if (ticks_log_set(a, ticks_mantissa[TICKS_SETS - 1], stride, pixels, apart)) return;
    a->n = 0;
}

/* Decimals that state v to within `slack`. */
static int ticks_places(double v, double slack)
{
    int places = 0;
    for (double ten = 1; places < 9; places++, ten *= 10)
        if (fabs(round(v * ten) / ten - v) <= slack) break;
    return places;
}

static const char *ticks_unit(double size, double *unit)
{
    static const struct {
        double unit;
        const char *suffix;
    } units[] = {{1e9, "G"}, {1e6, "M"}, {1e3, "k"}};
    for (int i = 0; i < 3 && size < 1e13; i++)
        if (size >= units[i].unit * (i < 2 ? 1 : 20)) {
            *unit = units[i].unit;
            return units[i].suffix;
        }
    *unit = 1;
    return "";
}

/* Evenly spaced ticks share unit and decimals (0.5M, 1.0M); those of a log axis are written each as
 * short as can be. */
static void ticks_texts(st_axis *a, bool even)
{
    double unit, most = fmax(fabs(a->lo), fabs(a->hi));
    const char *suffix = ticks_unit(most, &unit);
    int same = 0;
    for (int i = 0; i < a->n; i++) {
        int places = ticks_places(a->tick[i] / unit, (a->hi - a->lo) / unit * 1e-3);
        if (places > same) same = places;
    }
    for (int i = 0; i < a->n; i++) {
        if (!even) suffix = /* 0.5M rather than 500k */ ticks_unit(a->tick[i] * 2.0001, &unit);
        double v = a->tick[i] / unit;
        int places = even ? same : ticks_places(v, fabs(v) * 1e-3);
        if (v == 0)
            snprintf(a->text[i], sizeof a->text[i], "0");
        else if (places > 6 || fabs(v) >= 1e7)
            snprintf(a->text[i], 24, "%.3g%s", v, suffix);
        else {
            snprintf(a->text[i], 20, "%.*f", places, v);
            ticks_group(a->text[i]);
            strncat(a->text[i], suffix, sizeof a->text[i] - strlen(a->text[i]) - 1);
        }
    }
}

void st_axis_make(st_axis *a, double lo, double hi, bool log, bool fixed, double pixels,
                  double apart)
{
    *a = (st_axis){.lo = lo, .hi = hi, .log = log && lo > 0};
    if (!(a->hi > a->lo)) {
        double room = a->log ? 0 : fabs(lo) > 0 ? fabs(lo) * 0.1 : 1;
        a->lo = a->log ? lo / 1.25 : lo - room;
        a->hi = a->log ? lo * 1.25 : lo + room;
    } else if (a->log && !fixed) {
        double room = pow(hi / lo, 0.07);
        a->lo = lo / room;
        a->hi = hi * room;
    }
    double most = fmin(8, floor(pixels / apart));
    bool even = !a->log;
    if (a->log) ticks_log(a, pixels, apart);
    if (a->log && a->n < 3 && a->hi < a->lo * 10) { /* evenly spaced values serve better */
        a->n = 0;
        even = true;
        ticks_linear(a, true, most);
    }
    if (!a->log) ticks_linear(a, fixed, most);
    ticks_texts(a, even);
}
