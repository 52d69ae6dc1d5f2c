/* Pictures of folders and archives through the loader: the planes that decoding one by one gives,
 * in order, whatever the threads; broken ones by name. */
/* SPDX-License-Identifier: MIT */
#include "image/image.h"
#include "testing.h"
#include <archive.h>
#include <archive_entry.h>
#include <sys/stat.h>
#include <unistd.h>

#define FIXTURES "test/fixtures/images/"
enum { SIZE = 16, PLANES = 3 * SIZE * SIZE, MOST = 64 };

static st_loader_opts opts(int threads, int64_t slots)
{
    return (st_loader_opts){
        .fit = {.size = SIZE, .filter = ST_BICUBIC, .crop = 0.9, .std = {1, 1, 1}},
        .threads = threads,
        .slots = slots};
}

/* What a run gives: names, reasons, planes. */
typedef struct {
    int n;
    char name[MOST][256], folder[MOST][64];
    st_err bad[MOST];
    float planes[MOST][PLANES];
} taken;

static st_status take_all(const char *const *paths, int n, const st_loader_opts *o, taken *t,
                          st_err *e)
{
    st_loader *l;
    st_picture p;
    t->n = 0;
    ST_TRY(st_loader_open(&l, paths, n, o, e));
    st_status s;
    while (t->n < MOST && !(s = st_loader_next(l, &p, t->planes[t->n], &t->bad[t->n], e)) &&
           p.name) {
        size_t k;
        const char *folder = st_picture_folder(&p, &k);
        snprintf(t->name[t->n], sizeof t->name[0], "%s", p.name);
        snprintf(t->folder[t->n++], sizeof t->folder[0], "%.*s", (int)k, folder);
        st_picture_free(&p);
    }
    st_loader_close(l);
    return s;
}

static void alone(const char *file, float *planes)
{
    size_t n;
    st_err e = {0};
    st_image im;
    st_loader_opts o = opts(1, 1);
    char *data = st_test_read(file, &n);
    assert_non_null(data);
    assert_ok(st_image_decode(&im, data, n, file, NULL, &e), &e);
    assert_ok(st_image_planes(&im, &o.fit, planes, &e), &e);
    st_image_free(&im);
    free(data);
}

static void put(const char *dir, const char *name, const char *fixture)
{
    size_t n;
    char *data = st_test_read(st_test_path(FIXTURES, fixture), &n);
    assert_non_null(data);
    st_test_write(st_test_path(dir, name), data, n);
    free(data);
}

static void threads_change_nothing(void **state)
{
    static taken one, many;
    const char *path = FIXTURES;
    float planes[PLANES];
    st_err e = {0};
    (void)state;
    st_loader_opts o = opts(1, 1);
    assert_ok(take_all(&path, 1, &o, &one, &e), &e);
    assert_true(one.n > 50);
    for (int i = 0; i < one.n; i++) {
        assert_int_equal(one.bad[i].code, ST_OK);
        alone(one.name[i], planes);
        assert_memory_equal(planes, one.planes[i], sizeof planes);
        assert_true(i == 0 || strcmp(one.name[i - 1], one.name[i]) < 0);
    }
    for (int threads = 2; threads <= 5; threads++) {
        o = opts(threads, threads == 3 ? 0 : threads == 5 ? 2 : 7);
        assert_ok(take_all(&path, 1, &o, &many, &e), &e);
        assert_int_equal(many.n, one.n);
        for (int i = 0; i < one.n; i++) {
            assert_string_equal(many.name[i], one.name[i]);
            assert_memory_equal(many.planes[i], one.planes[i], sizeof planes);
        }
    }
    o = opts(3, 5);
    o.skip = 7;
    o.limit = 11;
    assert_ok(take_all(&path, 1, &o, &many, &e), &e);
    assert_int_equal(many.n, 11);
    for (int i = 0; i < 11; i++)
        assert_memory_equal(many.planes[i], one.planes[i + 7], sizeof planes);
    o.skip = 1000;
    assert_ok(take_all(&path, 1, &o, &many, &e), &e);
    assert_int_equal(many.n, 0);
}

static void broken_ones_are_named(void **state)
{
    static taken t;
    static const struct {
        const char *name, *says;
    } want[] = {{"a.JPEG", NULL},
                {"b-empty.jpg", "b-empty.jpg: is empty"},
                {"c-text.png", "neither JPEG nor PNG"},
                {"d.jpg/e.jpg", NULL},
                {"f-gone.jpeg", "No such file"},
                {"g-half.jpg", "ends early"},
                {"h.bmp", "BMP cannot be read"}};
    const char *dir = st_test_dir();
    size_t n;
    st_err e = {0};
    (void)state;
    put(dir, "a.JPEG", "png-in-disguise.JPEG");
    st_test_write(st_test_path(dir, "b-empty.jpg"), "", 0);
    st_test_write(st_test_path(dir, "c-text.png"), "not a picture", 13);
    mkdir(st_test_path(dir, "d.jpg"), 0700);
    put(dir, "d.jpg/e.jpg", "grey.jpg");
    assert_int_equal(symlink("..", st_test_path(dir, "d.jpg/loop.jpg")), 0);
    assert_int_equal(symlink("self.png", st_test_path(dir, "f-gone.jpeg")), 0);
    char *data = st_test_read(FIXTURES "rgb-444.jpg", &n);
    st_test_write(st_test_path(dir, "g-half.jpg"), data, n / 2);
    free(data);
    st_test_write(st_test_path(dir, "h.bmp"), "BM........", 10);
    st_test_write(st_test_path(dir, "labels.txt"), "no picture", 10);
    assert_int_equal(mkfifo(st_test_path(dir, "pipe.jpg"), 0600), 0);
    st_loader_opts o = opts(2, 0);
    assert_ok(take_all(&dir, 1, &o, &t, &e), &e);
    assert_int_equal(t.n, sizeof want / sizeof *want);
    for (int i = 0; i < t.n; i++) {
        assert_string_equal(t.name[i] + strlen(dir) + 1, want[i].name);
        assert_int_equal(t.bad[i].code != ST_OK, want[i].says != NULL);
        if (want[i].says) assert_says(&t.bad[i], want[i].says);
        for (int k = 0; want[i].says && k < PLANES; k++)
            assert_true(t.planes[i][k] == 0.0f);
    }
    /* What is named itself need not look like a picture, but must be there. */
    const char *named[] = {st_test_path(dir, "labels.txt"), st_test_path(dir, "a.JPEG")};
    assert_ok(take_all(named, 2, &o, &t, &e), &e);
    assert_int_equal(t.n, 2);
    assert_says(&t.bad[0], "neither JPEG nor PNG");
    named[1] = st_test_path(dir, "nowhere.jpg");
    assert_st(take_all(named, 2, &o, &t, &e), ST_EIO, &e);
    assert_says(&e, "nowhere.jpg");
    st_test_remove(dir);
}

/* ---- archives -------------------------------------------------------------------------------- */

typedef struct {
    const char *name;
    const char *file;
} member;

static void pack(const char *path, int format, int filter, const member *m, int n)
{
    struct archive *a = archive_write_new();
    archive_write_add_filter(a, filter);
    archive_write_set_format(a, format);
    assert_int_equal(archive_write_open_filename(a, path), ARCHIVE_OK);
    for (int i = 0; i < n; i++) {
        size_t size;
        char *data = st_test_read(m[i].file, &size);
        assert_non_null(data);
        struct archive_entry *entry = archive_entry_new();
        archive_entry_set_pathname(entry, m[i].name);
        archive_entry_set_filetype(entry, AE_IFREG);
        archive_entry_set_perm(entry, 0644);
        archive_entry_set_size(entry, (la_int64_t)size);
        assert_int_equal(archive_write_header(a, entry), ARCHIVE_OK);
        assert_int_equal(archive_write_data(a, data, size), (la_ssize_t)size);
        archive_entry_free(entry);
        free(data);
    }
    assert_int_equal(archive_write_close(a), ARCHIVE_OK);
    archive_write_free(a);
}

static void archives_are_read_and_name_folders(void **state)
{
    static taken t;
    static const member files[] = {{"val/n02/x.JPEG", FIXTURES "grey.jpg"},
                                   {"val/n01/y.jpg", FIXTURES "rgb-444.jpg"},
                                   {"val/readme.txt", FIXTURES "cases.json"},
                                   {"z.png", FIXTURES "rgb-8.png"}};
    static const char *const folders[] = {"n02", "n01", "all"};
    const char *dir = st_test_dir();
    float planes[PLANES];
    st_err e = {0};
    st_loader_opts o = opts(3, 2);
    (void)state;
    static const struct {
        const char *name;
        int format, filter;
    } kinds[] = {{"all.tar", ARCHIVE_FORMAT_TAR_USTAR, ARCHIVE_FILTER_NONE},
                 {"all.tgz", ARCHIVE_FORMAT_TAR_USTAR, ARCHIVE_FILTER_GZIP},
                 {"all.zip", ARCHIVE_FORMAT_ZIP, ARCHIVE_FILTER_NONE}};
    for (int k = 0; k < 3; k++) {
        const char *path = st_test_path(dir, kinds[k].name);
        pack(path, kinds[k].format, kinds[k].filter, files, 4);
        assert_ok(take_all(&path, 1, &o, &t, &e), &e);
        assert_int_equal(t.n, 3);
        for (int i = 0; i < 3; i++) {
            const member *m = &files[i < 2 ? i : 3];
            assert_int_equal(t.bad[i].code, ST_OK);
            assert_memory_equal(t.name[i] + strlen(path), ": ", 2);
            assert_string_equal(t.name[i] + strlen(path) + 2, m->name);
            assert_string_equal(t.folder[i], folders[i]);
            alone(m->file, planes);
            assert_memory_equal(planes, t.planes[i], sizeof planes);
        }
    }
    /* Archives in archives and in folders, each of a class. */
    member inner[] = {{"a.jpg", FIXTURES "grey.jpg"}};
    char n01[1024];
    snprintf(n01, sizeof n01, "%s", st_test_path(dir, "n01.tar"));
    pack(n01, ARCHIVE_FORMAT_TAR_USTAR, ARCHIVE_FILTER_NONE, inner, 1);
    member outer[] = {{"train/n01.tar", n01}};
    mkdir(st_test_path(dir, "sub"), 0700);
    pack(st_test_path(dir, "sub/train.tar"), ARCHIVE_FORMAT_TAR_USTAR, ARCHIVE_FILTER_NONE, outer,
         1);
    const char *paths[] = {n01, st_test_path(dir, "sub")};
    assert_ok(take_all(paths, 2, &o, &t, &e), &e);
    assert_int_equal(t.n, 2);
    assert_string_equal(t.folder[0], "n01");
    assert_string_equal(t.folder[1], "n01");
    assert_non_null(strstr(t.name[1], "train.tar: train/n01.tar: a.jpg"));
    st_test_remove(dir);
}

/* The pictures before the damage come, then the error. */
static void a_cut_archive_is_an_error(void **state)
{
    static taken t;
    static const member files[] = {{"a.jpg", FIXTURES "grey.jpg"},
                                   {"b.jpg", FIXTURES "rgb-444.jpg"},
                                   {"c.jpg", FIXTURES "rgb-422.jpg"}};
    const char *dir = st_test_dir(), *path = st_test_path(dir, "x.tar");
    st_err e = {0};
    st_loader_opts o = opts(2, 4);
    (void)state;
    pack(path, ARCHIVE_FORMAT_TAR_USTAR, ARCHIVE_FILTER_NONE, files, 3);
    assert_int_equal(truncate(path, 512 + 512 + 512 + 700), 0);
    assert_st(take_all(&path, 1, &o, &t, &e), ST_EFORMAT, &e);
    assert_says(&e, "x.tar");
    assert_int_equal(t.n, 1);
    st_test_remove(dir);
}

/* Closing while threads wait for room, read and decode. */
static void closing_early_is_clean(void **state)
{
    const char *path = FIXTURES;
    static float planes[PLANES];
    (void)state;
    for (int many = 0; many < 12; many++) {
        st_loader_opts o = opts(4, 3);
        st_loader *l;
        st_err e = {0}, bad;
        assert_ok(st_loader_open(&l, &path, 1, &o, &e), &e);
        for (int i = 0; i < many; i++) {
            st_picture p;
            assert_ok(st_loader_next(l, &p, planes, &bad, &e), &e);
            st_picture_free(&p);
        }
        st_loader_close(l);
    }
    st_loader *l;
    st_err e = {0};
    st_loader_opts o = opts(0, 0);
    assert_st(st_loader_open(&l, &path, 1, &o, &e), ST_EARG, &e);
    st_loader_close(NULL);
}

/* The last test: what has been interrupted stays so. */
static void an_interruption_ends_it(void **state)
{
    const char *path = FIXTURES;
    static float planes[PLANES];
    st_loader_opts o = opts(3, 4);
    st_loader *l;
    st_picture p;
    st_err e = {0}, bad;
    (void)state;
    assert_ok(st_loader_open(&l, &path, 1, &o, &e), &e);
    assert_ok(st_loader_next(l, &p, planes, &bad, &e), &e);
    st_picture_free(&p);
    st_interrupt();
    assert_st(st_loader_next(l, &p, planes, &bad, &e), ST_EINTR, &e);
    assert_null(p.name);
    st_loader_close(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_change_nothing),
        cmocka_unit_test(broken_ones_are_named),
        cmocka_unit_test(archives_are_read_and_name_folders),
        cmocka_unit_test(a_cut_archive_is_an_error),
        cmocka_unit_test(closing_early_is_clean),
        cmocka_unit_test(an_interruption_ends_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
