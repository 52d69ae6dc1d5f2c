/* Names of classes, the likeliest of them, and the rows that an evaluation goes on from: whatever
 * a killed process or an editor leaves of the file. */
/* SPDX-License-Identifier: MIT */
#include "testing.h"
#include "vision/inner.h"
#include <math.h>

static void classes_are_imagenets(void **state)
{
    st_classes c;
    st_err e = {0};
    (void)state;
    assert_ok(st_classes_open(&c, "/nowhere", 1000, &e), &e);
    assert_string_equal(c.from, "imagenet");
    assert_string_equal(c.id[0], "n01440764");
    assert_string_equal(c.name[0], "tench, Tinca tinca");
    assert_string_equal(c.id[999], "n15075141");
    assert_string_equal(c.name[999], "toilet tissue, toilet paper, bathroom tissue");
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(strlen(c.id[i]), 9);
        assert_true(i == 0 || strcmp(c.id[i - 1], c.id[i]) < 0);
        assert_int_equal(st_classes_find(&c, c.id[i], 9), i);
    }
    assert_int_equal(st_classes_find(&c, "n0144076", 8), -1);
    assert_int_equal(st_classes_find(&c, "tench, Tinca tinca, and more", 18), 0);
    st_classes_close(&c);
    assert_ok(st_classes_open(&c, "/nowhere", 12, &e), &e);
    assert_string_equal(c.name[11], "class 11");
    assert_null(c.id[11]);
    st_classes_close(&c);
}

static void classes_of_a_config(void **state)
{
    static const struct {
        const char *config, *name, *says;
    } t[] = {{"{\"id2label\": {\"1\": \"dog\", \"0\": \"cat\"}}", "dog", NULL},
             {"{\"id2label\": {\"1\": \"LABEL_1\", \"0\": \"LABEL_0\"}}", "class 1", NULL},
             {"{\"id2label\": null}", "class 1", NULL},
             {"{\"id2label\": {\"0\": \"cat\", \"1\": 7}}", NULL, "no text for class 1"},
             {"[", NULL, "config.json"}};
    const char *dir = st_test_dir();
    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        st_classes c;
        st_err e = {0};
        st_test_write(st_test_path(dir, "config.json"), t[i].config, strlen(t[i].config));
        if (t[i].says) {
            assert_st(st_classes_open(&c, dir, 2, &e), ST_EFORMAT, &e);
            assert_says(&e, t[i].says);
            continue;
        }
        assert_ok(st_classes_open(&c, dir, 2, &e), &e);
        assert_string_equal(c.name[1], t[i].name);
        st_classes_close(&c);
    }
    st_test_remove(dir);
}

static void the_likeliest_come_first(void **state)
{
    enum { MOST = 40 };
    st_rng r = {.seed = 9};
    (void)state;
    for (int n = 1; n <= MOST; n++) {
        float z[MOST];
        double sum = 0.0, logsum;
        int64_t best[MOST];
        for (int i = 0; i < n; i++) {
            z[i] = (float)st_rng_below(&r, 12) + 500.0f; /* many are equal; exp(z) is infinite */
            sum += exp((double)z[i] - 500.0);
        }
        for (int top = 1; top <= n; top++) {
            st_top_classes(z, n, top, best, &logsum);
            assert_true(fabs(logsum - 500.0 - log(sum)) < 1e-12);
            for (int k = 0; k < top; k++) {
                int before = 0; /* classes that come before this one */
                for (int i = 0; i < n; i++)
                    before += z[i] > z[best[k]] || (z[i] == z[best[k]] && i < best[k]);
                assert_int_equal(before, k);
            }
        }
    }
}

/* ---- rows ------------------------------------------------------------------------------------ */

enum { IMAGES = 6, SEEDS = 2, FIRST = 5 };

static char names_text[IMAGES][24] = {"a.jpg", "n01/b \"c\", d.JPEG", "e\nf,g", "",
                                      "\"",    "\xc3\xa9.png"};
static char *names[IMAGES];
static int32_t labels[IMAGES] = {3, 2, 2, 1, 4, 3};
static const st_truth truth = {.n = IMAGES, .name = names, .label = labels};

static json_t *settings(const char *attention)
{
    return json_pack("{s:s, s:i, s:s}", "attention", attention, "seeds", SEEDS, "format",
                     "strut classify 1");
}

static st_class_row row_of(int i, int k)
{
    return (st_class_row){.label = labels[i],
                          .best = {k ? 3 : i % 5, (i + 1) % 5, (i + 2) % 5},
                          .seed = FIRST + k,
                          .tops = 3,
                          .probability = 1.0f / (float)(i + 3),
                          .loss = 0.1f * (float)(i + k),
                          .error = i == 2 ? "e, \"f\": is\nempty" : NULL};
}

/* Pictures up to `n` into `path`, those that it has no rows of; *found: those that it had. */
static st_status write_rows(const char *path, bool replace, int n, st_class_tally *tally,
                            int64_t *found, st_err *e)
{
    st_class_rows r = {.truth = &truth, .seeds = SEEDS, .seed = FIRST, .tally = tally};
    json_t *s = settings("full");
    memset(tally, 0, SEEDS * sizeof *tally);
    st_status st = st_class_rows_open(&r, path, replace, s, e);
    json_decref(s);
    ST_TRY(st);
    *found = r.images;
    for (int i = 0; !st && i < n * SEEDS; i++) {
        st_class_row row = row_of(i / SEEDS, i % SEEDS);
        if (r.have[i / SEEDS]) continue;
        for (int k = i / SEEDS + 1; k < IMAGES; k++)
            r.astray = r.astray || r.have[k];
        st_class_count(&tally[i % SEEDS], &row);
        st = st_class_rows_add(&r, names[i / SEEDS], &row, e);
    }
    if (!st) st = st_class_rows_flush(&r, e);
    if (!st) st = st_class_rows_end(&r, e);
    st_class_rows_close(&r);
    return st;
}

static void same_tally(const st_class_tally *a, const st_class_tally *b)
{
    for (int k = 0; k < SEEDS; k++) {
        assert_int_equal(a[k].images, b[k].images);
        assert_int_equal(a[k].right, b[k].right);
        assert_int_equal(a[k].right5, b[k].right5);
        assert_int_equal(a[k].broken, b[k].broken);
        assert_true(a[k].loss == b[k].loss);
    }
}

static void rows_go_on_wherever_they_end(void **state)
{
    st_class_tally whole[SEEDS], t[SEEDS];
    const char *dir = st_test_dir(), *path = st_test_path(dir, "r.csv");
    st_err e = {0};
    int64_t found;
    size_t n, m;
    (void)state;
    assert_ok(write_rows(path, false, IMAGES, whole, &found, &e), &e);
    assert_int_equal(whole[0].images, IMAGES - 1);
    assert_int_equal(whole[0].broken, 1);
    assert_true(whole[1].right > 0 && whole[1].right5 > whole[1].right);
    char *all = st_test_read(path, &n);
    size_t head = (size_t)(strchr(all, '\n') + 1 - all);
    int64_t most = 0;
    for (size_t cut = head; cut <= n; cut++) {
        st_test_write(path, all, cut);
        assert_ok(write_rows(path, false, IMAGES, t, &found, &e), &e);
        assert_true(found >= most);
        most = found;
        same_tally(t, whole);
        char *again = st_test_read(path, &m);
        assert_int_equal(m, n);
        assert_memory_equal(again, all, n);
        free(again);
    }
    assert_int_equal(most, IMAGES);
    st_test_write(path, all, head - 3);
    assert_st(write_rows(path, false, IMAGES, t, &found, &e), ST_EFORMAT, &e);
    assert_says(&e, "does not begin");
    assert_ok(write_rows(path, true, IMAGES, t, &found, &e), &e);
    same_tally(t, whole);
    free(all);
    st_test_remove(dir);
}

/* Whatever happens to a row, the others stay, and the file is whole again in the end. */
static void spoilt_rows_cost_their_pictures(void **state)
{
    st_class_tally whole[SEEDS], t[SEEDS];
    const char *dir = st_test_dir(), *path = st_test_path(dir, "r.csv");
    st_err e = {0};
    int64_t found;
    size_t n, m, at[IMAGES * SEEDS + 1];
    (void)state;
    assert_ok(write_rows(path, false, IMAGES, whole, &found, &e), &e);
    char *all = st_test_read(path, &n), *text = test_malloc(2 * n);
    at[0] = (size_t)(strchr(all, '\n') + 1 - all);
    for (int i = 0; i < IMAGES * SEEDS; i++) { /* a line, or one with a line in quotes */
        size_t end = at[i], quotes = 0;
        for (; all[end] != '\n' || quotes % 2; end++)
            quotes += all[end] == '"';
        at[i + 1] = end + 1;
    }
    assert_int_equal(at[IMAGES * SEEDS], n);
    for (int i = 0; i < IMAGES * SEEDS; i++) {
        for (int how = 0; how < 5; how++) {
            size_t length = at[i + 1] - at[i];
            memcpy(text, all, n);
            m = n;
            if (how == 0) memset(text + at[i], 0, length - 1); /* as after a power cut */
            if (how == 1) text[at[i + 1] - 2] = '"';
            if (how == 2) text[at[i] + length / 2] = '\n';
            if (how == 3) /* gone */
                memmove(text + at[i], all + at[i + 1], n - at[i + 1]), m -= length;
            if (how == 4) { /* twice */
                memmove(text + at[i + 1], all + at[i], n - at[i]);
                m += length;
            }
            st_test_write(path, text, m);
            st_status got = write_rows(path, false, IMAGES, t, &found, &e);
            if (got == ST_EFORMAT && how == 2) continue; /* half a name, or half a number */
            assert_ok(got, &e);
            if (how == 0 || how == 3) assert_int_equal(found, IMAGES - 1);
            if (how == 4) assert_int_equal(found, IMAGES);
            assert_true(found >= IMAGES - 1);
            same_tally(t, whole);
            char *again = st_test_read(path, &m);
            assert_int_equal(m, n);
            if (how != 2) assert_memory_equal(again, all, n); /* 2: an error may have two lines */
            free(again);
        }
    }
    /* Any order will do. */
    m = at[0];
    memcpy(text, all, m);
    for (int i = IMAGES * SEEDS; i-- > 0; m += at[i + 1] - at[i])
        memcpy(text + m, all + at[i], at[i + 1] - at[i]);
    st_test_write(path, text, m);
    assert_ok(write_rows(path, false, IMAGES, t, &found, &e), &e);
    assert_int_equal(found, IMAGES);
    same_tally(t, whole);
    test_free(text);
    free(all);
    st_test_remove(dir);
}

static void rows_of_others_are_refused(void **state)
{
    st_class_tally t[SEEDS];
    const char *dir = st_test_dir(), *path = st_test_path(dir, "r.csv");
    st_err e = {0};
    st_class_rows r = {.truth = &truth, .seeds = SEEDS, .seed = FIRST, .tally = t};
    int64_t found;
    size_t n;
    (void)state;
    assert_ok(write_rows(path, false, 3, t, &found, &e), &e);
    json_t *s = settings("local:window=9");
    assert_st(st_class_rows_open(&r, path, false, s, &e), ST_EARG, &e);
    assert_says(&e, "attention \"full\", not \"local:window=9\"");
    json_decref(s);
    /* Any byte may be wrong: refused, or numbers that are still numbers; never more rows. */
    char *all = st_test_read(path, &n);
    size_t head = (size_t)(strchr(all, '\n') + 1 - all);
    for (size_t i = 0; i < n; i += i < head ? 7 : 1) {
        for (int k = 0; k < 4; k++) {
            char was = all[i];
            all[i] = (char)(k == 0 ? '"' : k == 1 ? '\n' : k == 2 ? '\0' : 'x');
            st_test_write(path, all, n);
            st_status got = write_rows(path, false, 3, t, &found, &e);
            assert_true(got == ST_OK || got == ST_EFORMAT);
            assert_true(got || i >= head || all[i] == was);
            all[i] = was;
        }
    }
    free(all);
    assert_ok(write_rows(path, true, 3, t, &found, &e), &e);
    remove(st_test_path(dir, "r.csv.json"));
    assert_st(write_rows(path, false, 3, t, &found, &e), ST_EARG, &e);
    assert_says(&e, "says how it was made");
    st_test_remove(dir);
}

/* Rows of a picture, label or seed that is not asked for, the nearest ones too. */
static void rows_of_other_seeds_are_refused(void **state)
{
    static const struct {
        const char *row;
        st_status status;
    } t[] = {{"a.jpg,3,5,0,0 1,0.5,1,\n", ST_OK},
             {"a.jpg,3,6,0,0 1,0.5,1,\n", ST_OK},
             {"a.jpg,3,4,0,0 1,0.5,1,\n", ST_EFORMAT},
             {"a.jpg,3,7,0,0 1,0.5,1,\n", ST_EFORMAT},
             {"a.jpg,2,5,0,0 1,0.5,1,\n", ST_EFORMAT},
             {"b.jpg,3,5,0,0 1,0.5,1,\n", ST_EFORMAT},
             {"\xc3\xa9.png,3,7,0,0 1,0.5,1,\n", ST_EFORMAT}};
    const char *dir = st_test_dir(), *path = st_test_path(dir, "r.csv");
    st_class_tally tally[SEEDS];
    st_err e = {0};
    int64_t found;
    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        char text[200];
        assert_ok(write_rows(path, true, 0, tally, &found, &e), &e);
        int n = snprintf(text, sizeof text,
                         "path,label,seed,prediction,top5,probability,loss,error\n%s", t[i].row);
        st_test_write(path, text, (size_t)n);
        assert_st(write_rows(path, false, 0, tally, &found, &e), t[i].status, &e);
        if (t[i].status) assert_says(&e, "row 1 is of");
    }
    st_test_remove(dir);
}

/* Under the names of results or of their settings: never lost, whatever is asked for. */
static void other_files_are_not_replaced(void **state)
{
    st_class_tally t[SEEDS];
    const char *dir = st_test_dir(), *path = st_test_path(dir, "r.csv"),
               *about = st_test_path(dir, "r.csv.json");
    static const char *const others[] = {"{\"format\": 1}\n", "{\"settings\": {\"format\": 1}}\n",
                                         "{\"settings\": {}}\n", "path,label\n", "q"};
    st_err e = {0};
    int64_t found;
    size_t n;
    (void)state;
    for (size_t i = 0; i < 2 * sizeof others / sizeof *others; i++) {
        const char *text = others[i / 2], *at = i % 2 ? path : about;
        st_test_write(at, text, strlen(text));
        assert_st(write_rows(path, true, 3, t, &found, &e), ST_EARG, &e);
        assert_says(&e, "is no file of an evaluation, so it is not replaced");
        assert_says(&e, i % 2 ? "r.csv: " : "r.csv.json: ");
        if (i % 2 == 0) assert_st(write_rows(path, false, 3, t, &found, &e), ST_EARG, &e);
        char *is = st_test_read(at, &n);
        assert_int_equal(n, strlen(text));
        assert_memory_equal(is, text, n);
        free(is);
        remove(at);
        assert_int_equal(st_test_entries(dir), 0);
    }
    st_test_write(path, "", 0);
    assert_ok(write_rows(path, true, 3, t, &found, &e), &e);
    assert_ok(write_rows(path, true, 3, t, &found, &e), &e);
    st_test_remove(dir);
}

int main(void)
{
    for (int i = 0; i < IMAGES; i++)
        names[i] = names_text[i];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(classes_are_imagenets),
        cmocka_unit_test(classes_of_a_config),
        cmocka_unit_test(the_likeliest_come_first),
        cmocka_unit_test(rows_go_on_wherever_they_end),
        cmocka_unit_test(spoilt_rows_cost_their_pictures),
        cmocka_unit_test(rows_of_others_are_refused),
        cmocka_unit_test(rows_of_other_seeds_are_refused),
        cmocka_unit_test(other_files_are_not_replaced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
