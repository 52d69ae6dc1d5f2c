/* Plots: round ticks, labels that do not collide, files that are SVG and PNG, hostile input. */
/* SPDX-License-Identifier: MIT */
#include "chart/pen.h"
#include "testing.h"
#include <math.h>

/* fontconfig keeps its caches until the process ends. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libfontconfig\n";
}

static void check_axis(double lo, double hi, bool log, bool fixed, double pixels)
{
    st_axis a;
    st_axis_make(&a, lo, hi, log, fixed, pixels, 40);
    assert_true(a.lo < a.hi);
    assert_true(fixed || (a.lo <= lo && a.hi >= hi));
    assert_in_range(a.n, 1, ST_TICKS);
    for (int i = 0; i < a.n; i++) {
        double at = st_axis_place(&a, a.tick[i]);
        assert_true(at > -1e-6 && at < 1 + 1e-6);
        if (i) assert_true((at - st_axis_place(&a, a.tick[i - 1])) * pixels > 15);
        if (i) assert_string_not_equal(a.text[i], a.text[i - 1]);
    }
}

static void test_axes(void **state)
{
    (void)state;
    static const double range[][2] = {{0, 1},       {40, 62},     {-3, 1e6},    {1e-9, 2e-9},
                                      {1, 1e12},    {3.1, 3.2},   {6.8e5, 2e6}, {100, 101},
                                      {5, 5},       {0, 0},       {-7, -7},     {1e300, 1.5e300},
                                      {0.001, 0.5}, {1e-4, 1e-3}, {999, 1001},  {43, 900}};
    for (size_t i = 0; i < sizeof range / sizeof *range; i++)
        for (int kind = 0; kind < 4; kind++)
            check_axis(range[i][0], range[i][1], kind & 1, kind & 2, 300 + 200.0 * (double)(i % 3));
}

static void test_tick_texts(void **state)
{
    (void)state;
    st_axis a;
    st_axis_make(&a, 0, 200000, false, false, 500, 90);
    assert_string_equal(a.text[0], "0");
    assert_string_equal(a.text[1], "50k");
    assert_string_equal(a.text[4], "200k");
    st_axis_make(&a, 2000, 9000, false, false, 500, 150);
    assert_string_equal(a.text[a.n - 1], "10,000");
    st_axis_make(&a, 0.5, 2, false, false, 300, 60);
    assert_string_equal(a.text[0], "0.5");
    assert_string_equal(a.text[1], "1.0");
    st_axis_make(&a, 20, 2000, true, true, 500, 60);
    assert_string_equal(a.text[0], "20");
    char text[24];
    st_format_number(text, 1234567, 9);
    assert_string_equal(text, "1,234,567");
    st_format_number(text, -12345, 6);
    assert_string_equal(text, "-12,345");
    st_format_number(text, 1234, 6);
    assert_string_equal(text, "1234"); /* four digits are read at a glance */
    st_format_number(text, 124439808, 4);
    assert_string_equal(text, "124.4M");
    st_format_number(text, 46.23, 3);
    assert_string_equal(text, "46.2");
    st_format_number(text, (double)NAN, 3);
    assert_string_equal(text, "n/a");
    st_format_number(text, 0.0123, 2);
    assert_string_equal(text, "0.012");
}

static double overlap(st_box a, st_box b)
{
    double w = fmin(a.x + a.w, b.x + b.w) - fmax(a.x, b.x);
    double h = fmin(a.y + a.h, b.y + b.h) - fmax(a.y, b.y);
    return w > 0 && h > 0 ? w * h : 0;
}

/* A crowd of points: no two labels touch, none lies on a marker or outside. */
static void test_labels_keep_apart(void **state)
{
    (void)state;
    enum { N = 24 };
    st_box box[N], frame = {0, 0, 600, 400};
    double x[N], y[N];
    for (uint64_t seed = 0; seed < 20; seed++) {
        st_rng r = {seed, 1, 0};
        for (int i = 0; i < N; i++) {
            x[i] = 150 + 300 * st_rng_uniform(&r);
            y[i] = 100 + 200 * st_rng_uniform(&r);
            box[i] = (st_box){0, 0, 40 + 30 * st_rng_uniform(&r), 14};
        }
        st_labels_place(box, x, y, N, NULL, 0, frame, 5);
        int touching = 0;
        for (int i = 0; i < N; i++) {
            assert_true(box[i].x >= 0 && box[i].x + box[i].w <= 600);
            assert_true(box[i].y >= 0 && box[i].y + box[i].h <= 400);
            for (int j = 0; j < N; j++) {
                touching += j > i && overlap(box[i], box[j]) > 0;
                touching += overlap(box[i], (st_box){x[j] - 4, y[j] - 4, 8, 8}) > 0;
            }
        }
        assert_int_equal(touching, 0);
    }
}

static bool near(double a, double b)
{
    return fabs(a - b) < 1e-9;
}

/* Worked by hand: sorted 10 10.5 11 30 90; the first four pool at (10 + 0.5 - 9 + 0) / 4. */
static void test_rows_spread(void **state)
{
    (void)state;
    st_err e = {0};
    double y[] = {30, 10, 10.5, 11, 90};
    assert_ok(st_rows_spread(y, 5, 10, 0, 100, &e), &e);
    assert_true(near(y[1], 0.375) && near(y[2], 10.375) && near(y[3], 20.375));
    assert_true(near(y[0], 30.375) && near(y[4], 90));
    double two[] = {5, 5};
    assert_ok(st_rows_spread(two, 2, 10, 0, 100, &e), &e);
    assert_true(near(two[0], 0) && near(two[1], 10));
    double many[50];
    for (int i = 0; i < 50; i++)
        many[i] = 99;
    assert_ok(st_rows_spread(many, 50, 15, 0, 100, &e), &e);
    for (int i = 0; i < 50; i++)
        assert_true(many[i] >= -1e-9 && many[i] <= 100 + 1e-9);
    assert_ok(st_rows_spread(many, 0, 15, 0, 100, &e), &e);
}

static const double line_x[] = {0, 1, 2, 3}, line_y[] = {4, 3, 2.5, 2.4};
static double bad_y[] = {4, 0, 2.5, 0};

/* What follows the group whose id cairo counts up within a process. */
static const char *drawing(const char *svg)
{
    const char *at = strstr(svg, "<g id=\"surface");
    assert_non_null(at);
    return strchr(at, '>');
}

static void test_files(void **state)
{
    (void)state;
    st_err e = {0};
    st_plot_line line[] = {{"a", line_x, line_y, 4, ST_BLUE, false, false},
                           {"b", line_x, bad_y, 4, 99, true, true},
                           {"empty", line_x, line_y, 0, -1, false, false}};
    st_plot_point point[] = {{"p", 1, 3, ST_RED, ST_SQUARE, false},
                             {NULL, 2, 2, ST_RED, ST_TRIANGLE, true},
                             {"q", 2, 2, ST_RED, ST_DIAMOND, false}};
    bad_y[1] = (double)NAN, bad_y[3] = (double)INFINITY;
    const char *dir = st_test_dir(), *path = st_test_path(dir, "p.png");
    for (int kind = 0; kind < 8; kind++) {
        st_plot p = {.title = "T & <b>",
                     .x_label = "x",
                     .y_label = kind & 1 ? "y" : NULL,
                     .x_log = kind & 1,
                     .y_log = kind & 2,
                     .line = line,
                     .lines = 3,
                     .point = point,
                     .points = kind & 4 ? 3 : 0};
        char *svg, *again;
        size_t n, m;
        assert_ok(st_plot_svg(&p, kind & 1, &svg, &n, &e), &e);
        assert_ok(st_plot_svg(&p, kind & 1, &again, &m, &e), &e);
        assert_int_equal(n, strlen(svg));
        assert_string_equal(drawing(svg), drawing(again)); /* same input, same picture */
        assert_non_null(strstr(svg, "<svg"));
        assert_non_null(strstr(svg, "</svg>"));
        assert_null(strstr(svg, "nan"));
        assert_null(strstr(svg, "inf"));
        free(svg), free(again);
        assert_ok(st_plot_png(&p, 1, path, &e), &e);
        char *png = st_test_read(path, &n);
        assert_true(n > 1000 && memcmp(png, "\x89PNG\r\n\x1a\n", 8) == 0);
        free(png);
    }
    assert_int_equal(st_test_entries(dir), 1);
    st_test_remove(dir);
}

/* A point that is not a number changes nothing: neither limits nor picture. */
static void test_points_not_finite(void **state)
{
    (void)state;
    st_err e = {0};
    const double x[] = {1, (double)INFINITY}, y[] = {(double)INFINITY, (double)NAN};
    st_plot_line line[] = {{"a", line_x, line_y, 4, ST_BLUE, false, false},
                           {NULL, x, y, 2, ST_BLUE, false, false}};
    char *with, *without;
    size_t n;
    st_plot p = {.title = "t", .line = line, .lines = 1};
    assert_ok(st_plot_svg(&p, false, &without, &n, &e), &e);
    p.lines = 2;
    assert_ok(st_plot_svg(&p, false, &with, &n, &e), &e);
    assert_string_equal(drawing(with), drawing(without));
    free(with), free(without);
}

static void test_refusals(void **state)
{
    (void)state;
    st_err e = {0};
    char *svg;
    size_t n;
    st_plot empty = {.title = "nothing"};
    assert_st(st_plot_svg(&empty, false, &svg, &n, &e), ST_EARG, &e);
    assert_says(&e, "nothing");
    st_plot_point nowhere = {"p", (double)NAN, 1, 0, ST_CIRCLE, false};
    st_plot p = {.title = "nan", .point = &nowhere, .points = 1};
    assert_st(st_plot_svg(&p, false, &svg, &n, &e), ST_EARG, &e);
    nowhere = (st_plot_point){"p", -1, 1, 0, ST_CIRCLE, false};
    p.x_log = true;
    assert_st(st_plot_svg(&p, false, &svg, &n, &e), ST_EARG, &e);
    /* bytes that are not UTF-8 must not be drawn, nor a file be left */
    nowhere = (st_plot_point){"\xff\xfe", 1, 1, 0, ST_CIRCLE, false};
    const char *dir = st_test_dir();
    assert_st(st_plot_png(&p, 1, st_test_path(dir, "p.png"), &e), ST_EARG, &e);
    assert_int_equal(st_test_entries(dir), 0);
    nowhere.label = "fine";
    assert_st(st_plot_png(&p, 1, st_test_path(dir, "none/p.png"), &e), ST_EIO, &e);
    st_test_remove(dir);
}

/* The colour of what was drawn last, "rgb(...)". */
static void last_colour(const char *svg, char rgb[64])
{
    const char *at = NULL, *next = svg;
    while ((next = strstr(next, "rgb(")))
        at = next++;
    assert_non_null(at);
    snprintf(rgb, 64, "%.*s", (int)strcspn(at, ")"), at);
}

/* No two of three rounds of hues are alike. */
static void test_colours_beyond_the_named(void **state)
{
    (void)state;
    enum { ALL = ST_BLUE + 3 * (ST_COLOURS - ST_BLUE) };
    char rgb[ALL][64], *svg;
    size_t n;
    st_err e = {0};
    for (int dark = 0; dark < 2; dark++) {
        for (int i = 0; i < ALL; i++) {
            double x[] = {0, 1}, y[] = {1, 2};
            st_plot_line line = {.x = x, .y = y, .n = 2, .colour = i};
            st_plot p = {.line = &line, .lines = 1};
            assert_ok(st_plot_svg(&p, dark, &svg, &n, &e), &e);
            last_colour(svg, rgb[i]);
            for (int k = 0; k < i; k++)
                assert_string_not_equal(rgb[i], rgb[k]);
            free(svg);
        }
    }
}

/* A legend that is too long for one row pushes the frame down, row by row. */
static void test_long_legends_wrap(void **state)
{
    (void)state;
    enum { KEYS = 24 };
    double x = 1, y = 1, place[2], before = 0;
    st_plot_key key[KEYS];
    st_plot_point point = {.x = x, .y = y};
    for (int i = 0; i < KEYS; i++)
        key[i] = (st_plot_key){.label = "a matrix type", .colour = i};
    for (int n = 0; n <= KEYS; n += 8) {
        st_err e = {0};
        st_plot p = {.point = &point, .points = 1, .key = key, .keys = n, .width = 640};
        assert_ok(st_plot_places(&p, place, &e), &e);
        if (n) assert_true(place[1] > before + 0.01);
        before = place[1];
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_axes),
        cmocka_unit_test(test_tick_texts),
        cmocka_unit_test(test_labels_keep_apart),
        cmocka_unit_test(test_rows_spread),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_points_not_finite),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_colours_beyond_the_named),
        cmocka_unit_test(test_long_legends_wrap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
