/* Spec text, size matching, exact counts. */
/* SPDX-License-Identifier: MIT */
#include "lab.h"
#include "shapes.h"

static void test_printing_and_parsing_are_inverse(void **state)
{
    (void)state;
    static const struct {
        const char *given, *printed, *label;
    } cases[] = {
        {"dense", "dense", "dense"},
        {"lowrank:rank=64", "lowrank:rank=64", "lowrank:rank=64"},
        {"blockdiag", "blockdiag:blocks=4", "blockdiag:blocks=4"},
        {"monarch:blocks=4", "monarch:blocks=4", "monarch:blocks=4"},
        {"monarch:blocks=4,inner=192", "monarch:blocks=4", "monarch:blocks=4"},
        {"monarch:inner=100,blocks=4", "monarch:blocks=4,inner=100", "monarch:blocks=4,inner=100"},
        {"butterfly", "butterfly:size=16,factors=2", "butterfly:size=16,factors=2"},
        {"butterfly:size=16,factors=3,block=16", "butterfly:size=16,factors=3,block=16",
         "butterfly:size=16,factors=3,block=16"},
        {"kron:m1=768,n1=768", "kron:terms=1,m1=768,n1=768", "kron:terms=1,m1=768,n1=768"},
        {"kron:terms=2,m1=256,n1=1024,scalars=1", "kron:terms=2,m1=256,n1=1024,scalars=1",
         "kron:terms=2,m1=256,n1=1024,scalars=1"},
        {"ss1:factor=4",
         "ss1:factor=4,bk=32,bn=32,vec=8,r0=45007,r1=20011,r2=38363,r3=15263,seed=1024,version=3",
         "ss1:factor=4"},
        {"ss1:factor=4,folds=8,signs=1,seed=5",
         "ss1:factor=4,folds=8,signs=1,bk=32,bn=32,vec=8,r0=45007,r1=20011,r2=38363,r3=15263,"
         "seed=5,version=3",
         "ss1:factor=4,folds=8,signs=1,seed=5"},
        {"blockdiag:blocks=8+lowrank:rank=77", "lowrank:rank=77+blockdiag:blocks=8",
         "lowrank:rank=77+blockdiag:blocks=8"},
        {"lowrank:rank=8+blockdiag:blocks=4+gate", "lowrank:rank=8+blockdiag:blocks=4+gate",
         "lowrank:rank=8+blockdiag:blocks=4+gate"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        st_err e = {0};
        st_spec a, b, c;
        char text[ST_SPEC_TEXT], label[ST_SPEC_TEXT];
        assert_ok(st_spec_parse(&a, cases[i].given, 768, 3072, &e), &e);
        st_spec_print(&a, text);
        st_spec_label(&a, label);
        assert_string_equal(text, cases[i].printed);
        assert_string_equal(label, cases[i].label);
        assert_ok(st_spec_parse(&b, text, 768, 3072, &e), &e);
        assert_ok(st_spec_parse(&c, label, 768, 3072, &e), &e);
        assert_true(st_spec_equal(&a, &b));
        assert_true(st_spec_equal(&a, &c));
        assert_ok(st_spec_check(&b, &e), &e);
        assert_true(st_spec_equal(&a, &b));
    }
    st_spec a, b;
    assert_ok(st_spec_parse(&a, "lowrank:rank=64", 768, 3072, NULL), NULL);
    assert_ok(st_spec_parse(&b, "lowrank:rank=63", 768, 3072, NULL), NULL);
    assert_false(st_spec_equal(&a, &b));
    assert_ok(st_spec_parse(&b, "lowrank:rank=64", 3072, 768, NULL), NULL);
    assert_false(st_spec_equal(&a, &b));
}

/* Each is refused with the word that helps. */
/* The same for every shape of the table, and checking changes nothing twice. */
static void test_every_shape_prints_as_itself(void **state)
{
    (void)state;
    for (int i = 0; i < SHAPES; i++) {
        st_err e = {0};
        st_spec a, b;
        char text[ST_SPEC_TEXT], label[ST_SPEC_TEXT];
        assert_ok(st_spec_parse(&a, shapes[i].spec, shapes[i].in, shapes[i].out, &e), &e);
        st_spec_print(&a, text);
        st_spec_label(&a, label);
        assert_ok(st_spec_parse(&b, text, shapes[i].in, shapes[i].out, &e), &e);
        assert_true(st_spec_equal(&a, &b));
        assert_ok(st_spec_parse(&b, label, shapes[i].in, shapes[i].out, &e), &e);
        assert_true(st_spec_equal(&a, &b));
        assert_ok(st_spec_check(&b, &e), &e);
        assert_true(st_spec_equal(&a, &b));
    }
}

static void test_wrong_text_is_refused_with_help(void **state)
{
    (void)state;
    static const struct {
        const char *spec;
        int64_t in, out;
        const char *says;
    } cases[] = {
        {"monarc:blocks=4", 8, 8, "\"monarch\""},
        {"", 8, 8, "dense, lowrank"},
        {"sum", 8, 8, "joined by '+'"},
        {"low-rank:rank=3", 8, 8, "\"lowrank\""},
        {"monarch:block=4", 8, 8, "\"blocks\""},
        {"dense:rank=4", 8, 8, "none"},
        {"monarch:blocks", 8, 8, "whole number"},
        {"monarch:blocks=", 8, 8, "whole number"},
        {"monarch:blocks=4x", 8, 8, "whole number"},
        {"monarch:blocks=4,", 8, 8, "knob"},
        {"monarch:", 8, 8, "knob"},
        {"monarch:blocks=-9223372036854775808", 8, 8, "whole number"},
        {"monarch:blocks=2,blocks=4", 8, 8, "twice"},
        {"monarch:blocks=0", 8, 8, "1..8"},
        {"monarch:blocks=9", 8, 12, "1..8"},
        {"monarch:blocks=2,inner=9", 8, 12, "0..8"},
        {"lowrank", 8, 8, "rank"},
        {"lowrank:rank=9", 8, 12, "1..8"},
        {"lowrank:rank=0", 8, 12, "1..8"},
        {"lowrank:rank=9223372036854775807", 8, 12, "1..8"},
        {"blockdiag:blocks=-1", 8, 12, "1..8"},
        {"butterfly:size=64", 768, 24, "legal here: 2, 4, 8, 16, 32; "}, /* 24 is padded to 32 */
        {"butterfly:size=3", 768, 96, "legal here: 2, 4, 8, 16, 32; "},
        {"butterfly:size=64", 768, 96, "divides both 768 and 96"},
        {"butterfly:size=4,block=3", 9, 9, "another block"},
        {"butterfly:size=2048,block=1", 2048, 2048, "1024"},
        {"butterfly:size=8,factors=4", 768, 96, "1..3"},
        {"butterfly:size=8,factors=0", 768, 96, "1..3"},
        {"butterfly:block=0", 768, 96, "1..4096"},
        {"butterfly:block=5000", 768, 96, "1..4096"},
        {"kron:m1=5,n1=4", 12, 8, "1, 2, 3, 4, 6, 12"},
        {"kron:m1=4,n1=3", 12, 8, "1, 2, 4, 8"},
        {"kron:m1=0,n1=4", 12, 8, "legal"},
        {"kron:m1=4", 12, 8, "n1"},
        {"kron:terms=7,m1=6,n1=8", 12, 8, "1..2"},
        {"kron:terms=1,m1=4,n1=4,scalars=2", 12, 8, "0..1"},
        {"ss1:factor=0", 12, 8, "1..12"},
        {"ss1:factor=13", 12, 8, "1..12"},
        {"ss1:factor=4,bk=257", 12, 8, "1..256"},
        {"btt:rank=1,m1=2,n1=2,group=3", 8, 8, "divide"},
        {"lowrank:rank=2+blockdiag+gate+mean", 8, 8, "at its end"},
        {"ss1:factor=1,bk=8,vec=3", 12, 8, "divide"},
        {"ss1:factor=2,folds=9", 12, 8, "1..8"},
        {"ss1:factor=2,version=2", 12, 8, "3..3"},
        {"ss1:factor=2,r0=-1", 12, 8, "0.."},
        {"lowrank:rank=2+lowrank:rank=3", 8, 8, "exactly one"},
        {"blockdiag+monarch", 8, 8, "exactly one"},
        {"lowrank:rank=2+gate", 8, 8, "gate"},
        {"lowrank:rank=2+dense+dense", 8, 8, "2 parts"},
        {"lowrank:rank=2+dense+gate+gate", 8, 8, "2 parts"},
        {"lowrank:rank=2+", 8, 8, "unknown"},
        {"dense", 0, 8, "1.."},
        {"dense", 8, -1, "1.."},
        {"dense", 1 << 30, 8, "1.."},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        st_err e = {0};
        st_spec s;
        print_message("         %s\n", cases[i].spec);
        assert_true(st_spec_parse(&s, cases[i].spec, cases[i].in, cases[i].out, &e) != ST_OK);
        assert_says(&e, cases[i].says);
    }
    char *endless = malloc(100000);
    memset(endless, 'x', 99999);
    endless[99999] = '\0';
    st_err e = {0};
    st_spec s;
    assert_st(st_spec_parse(&s, endless, 8, 8, &e), ST_EARG, &e);
    free(endless);
}

static void test_fitting_comes_near(void **state)
{
    (void)state;
    static const char *const names[] = {"lowrank",
                                        "blockdiag",
                                        "monarch",
                                        "kron",
                                        "ss1",
                                        "ss1:folds=8,signs=1",
                                        "kron:scalars=1",
                                        "lowrank+blockdiag",
                                        "monarch+lowrank",
                                        "lowrank+kron",
                                        "lowrank+ss1",
                                        "lowrank+monarch+gate"};
    static const int64_t cut[][2] = {{768, 3072}, {3072, 768}, {256, 1024}, {192, 192}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        for (int shape = 0; shape < 4; shape++) {
            for (int less = 2; less <= 4; less += 2) {
                st_err e = {0};
                st_spec s, again;
                char text[ST_SPEC_TEXT];
                int64_t in = cut[shape][0], out = cut[shape][1], want = in * out / less;
                assert_ok(st_spec_fit(&s, names[i], in, out, want, &e), &e);
                st_spec_label(&s, text);
                double off = (double)st_spec_weights(&s) / (double)want - 1;
                print_message("         %5dx %4d -> %4d %-50s %+.1f %%\n", less, (int)in, (int)out,
                              text, 100 * off);
                assert_true(fabs(off) <= 0.15);
                assert_ok(st_spec_parse(&again, text, in, out, &e), &e);
                assert_true(st_spec_equal(&s, &again));
            }
        }
    }
}

static void test_what_cannot_fit_says_what_is_nearest(void **state)
{
    (void)state;
    st_err e = {0};
    st_spec s;
    assert_st(st_spec_fit(&s, "dense", 768, 3072, 589824, &e), ST_ESHAPE, &e);
    assert_says(&e, "dense");
    assert_st(st_spec_fit(&s, "blockdiag", 768, 3072, 1700000, &e), ST_ESHAPE, &e);
    assert_says(&e, "blocks=2");
    assert_st(st_spec_fit(&s, "kron", 7, 11, 25, &e), ST_ESHAPE, &e);
    assert_says(&e, "nearest");
    assert_st(st_spec_fit(&s, "lowrank+dense", 64, 64, 1024, &e), ST_ESHAPE, &e);
    assert_st(st_spec_fit(&s, "lowrank", 64, 64, 0, &e), ST_EARG, &e);
    assert_st(st_spec_fit(&s, "monarck", 64, 64, 1024, &e), ST_EARG, &e);
    assert_ok(st_spec_fit(&s, "dense", 64, 64, 4096, &e), &e);
}

static int64_t weights(const char *spec, int64_t in, int64_t out)
{
    st_err e = {0};
    st_spec s;
    assert_ok(st_spec_parse(&s, spec, in, out, &e), &e);
    return st_spec_weights(&s);
}

/* A GPT-2 whose two MLP matrices per layer are `fc` and `proj`. */
static int64_t total(int64_t d, int64_t layers, const char *fc, const char *proj)
{
    int64_t attention = d * 3 * d + 3 * d + d * d + d, norms = 4 * d, biases = 4 * d + d;
    int64_t embeddings = (50257 + 1024) * d;
    return embeddings + 2 * d +
           layers * (attention + norms + biases + weights(fc, d, 4 * d) + weights(proj, 4 * d, d));
}

static void test_totals_of_the_literature(void **state)
{
    (void)state;
    /* kronecker.md 1.3 */
    assert_int_equal(total(768, 12, "dense", "dense"), 124439808);
    static const struct {
        int m1, n1, terms;
        int64_t total;
    } kron[] = {
        {32, 64, 1, 67893504},    {24, 64, 1, 67890432},    {32, 48, 1, 67890432},
        {32, 128, 1, 67928832},   {768, 768, 1, 81972576},  {384, 1536, 1, 81972576},
        {256, 1024, 1, 74108376}, {256, 1024, 2, 80400048}, {256, 1024, 3, 86691720},
        {256, 1024, 4, 92983392}, {768, 1024, 1, 86691144}, {384, 3072, 1, 96128304},
        {768, 1536, 1, 96128304}, {256, 64, 10, 71783424},  {48, 64, 1, 67908864},
        {64, 64, 1, 67928832},    {48, 96, 1, 67939584},    {64, 96, 1, 67973376},
        {64, 128, 1, 68020224},   {96, 96, 1, 68044032},    {96, 128, 1, 68116224},
        {128, 128, 1, 68213376},  {384, 768, 1, 74894784},  {384, 1024, 1, 77254032},
    };
    for (size_t i = 0; i < sizeof kron / sizeof *kron; i++) {
        char fc[64], proj[64];
        snprintf(fc, sizeof fc, "kron:terms=%d,m1=%d,n1=%d", kron[i].terms, kron[i].m1, kron[i].n1);
        snprintf(proj, sizeof proj, "kron:terms=%d,m1=%d,n1=%d", kron[i].terms, kron[i].n1,
                 kron[i].m1);
        assert_int_equal(total(768, 12, fc, proj), kron[i].total);
    }
    assert_int_equal(total(768, 12, "kron:terms=4,m1=256,n1=1024,scalars=1",
                           "kron:terms=4,m1=1024,n1=256,scalars=1"),
                     92983488);
    /* ss1.md 1.9 */
    assert_int_equal(total(768, 12, "ss1:factor=2", "ss1:factor=2"), 96128256);
    assert_int_equal(total(768, 12, "ss1:factor=4", "ss1:factor=4"), 81972480);
    assert_int_equal(total(768, 12, "ss1:factor=8", "ss1:factor=8"), 74894592);
    assert_int_equal(total(1024, 24, "ss1:factor=4", "ss1:factor=4"), 203828224);
    assert_int_equal(total(1024, 24, "ss1:factor=2", "ss1:factor=2"), 254159872);
    assert_int_equal(total(1280, 36, "ss1:factor=8", "ss1:factor=8"), 361153280);
    /* monarch-attention-t2tvit.md A.1, A.3, A.5, A.6, A.8 */
    assert_int_equal(weights("monarch:blocks=4", 768, 3072), 737280);
    assert_int_equal(weights("monarch:blocks=4", 3072, 768), 737280);
    assert_int_equal(weights("monarch:blocks=4", 768, 2304), 589824);
    assert_int_equal(weights("monarch:blocks=4", 768, 768), 294912);
    assert_int_equal(weights("monarch:blocks=4", 1024, 4096), 1310720);
    assert_int_equal(weights("monarch:blocks=2", 768, 3072), 1474560);
    assert_int_equal(weights("monarch:blocks=8", 768, 3072), 368640);
    assert_int_equal(total(768, 12, "monarch:blocks=4", "monarch:blocks=4"), 85511424);
    assert_int_equal(total(1024, 24, "monarch:blocks=4", "monarch:blocks=4") / 10000, 21641);
    assert_int_equal(total(768, 12, "blockdiag:blocks=4", "blockdiag:blocks=4"), 81972480);
    assert_int_equal(weights("lowrank:rank=76", 768, 3072), 76 * 3840);
    assert_int_equal(weights("butterfly", 768, 3072), 480 * 1024);
    assert_int_equal(weights("butterfly", 3072, 768), 480 * 1024);
    assert_int_equal(weights("butterfly", 1024, 4096), 768 * 1024);
    assert_int_equal(weights("butterfly:size=8", 768, 3072), 864 * 1024);
    assert_int_equal(weights("butterfly", 768, 768), 128 * 1024);
    assert_int_equal(weights("butterfly:block=16", 768, 3072), 3072 * 768 * 3 / 16);
    assert_int_equal(weights("lowrank:rank=32+butterfly+gate", 768, 3072), 491520 + 122880 + 769);
    assert_int_equal(weights("lowrank:rank=32+blockdiag:blocks=4+gate", 768, 3072),
                     589824 + 122880 + 769);
}

/* One token's share of a forward over 1024 tokens on both backends. */
static void test_multiply_adds(void **state)
{
    (void)state;
    static const struct {
        const char *spec;
        int64_t in, out, rows;
        double macs;
    } cases[] = {
        {"dense", 768, 3072, 1024, 2359296},
        {"lowrank:rank=153", 768, 3072, 1024, 153 * 3840},
        {"blockdiag:blocks=4", 768, 3072, 1024, 589824},
        {"monarch:blocks=4", 3072, 768, 1024, 737280},
        {"kron:m1=768,n1=768", 768, 3072, 1024, 592896}, /* kronecker.md 1.2 */
        {"kron:m1=768,n1=768", 3072, 768, 1024, 592896},
        {"kron:m1=384,n1=3072", 768, 3072, 1024, 1180416},
        {"kron:m1=768,n1=1536", 768, 3072, 1024, 1182720},
        {"kron:terms=2,m1=256,n1=1024", 768, 3072, 1024, 1577472},
        {"kron:terms=4,m1=256,n1=1024", 768, 3072, 8, 3154944},
        {"kron:terms=4,m1=256,n1=1024", 768, 3072, 1024, 2359296 * (1 + 4.0 / 1024)},
        {"kron:terms=4,m1=256,n1=1024", 768, 3072, 16, 2359296 * 1.25},
        {"kron:m1=32,n1=64", 768, 3072, 1024, 122880},
        {"ss1:factor=4", 768, 3072, 1024, 589824},
        {"ss1:factor=4,folds=8,signs=1", 768, 3072, 1024, 589824},
        {"lowrank:rank=32+blockdiag:blocks=4+gate", 768, 3072, 1024, 589824 + 122880 + 768},
    };
    for (int device = 0; device < 2; device++) {
        st_err e = {0};
        st_stream *q = NULL;
        assert_ok(st_stream_open(&q, device ? "cpu" : "ref", 1, &e), &e);
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            st_spec s;
            double macs = 0;
            assert_ok(st_spec_parse(&s, cases[i].spec, cases[i].in, cases[i].out, &e), &e);
            assert_ok(st_spec_macs(&s, q, cases[i].rows, &macs, &e), &e);
            if (fabs(macs - cases[i].macs) < 1e-6 * macs) continue;
            fail_msg("%s: %.1f multiply-adds a token, %.1f expected", cases[i].spec, macs,
                     cases[i].macs);
        }
        st_stream_close(q);
    }
}

/* Comparisons see every type but dense once or more, under names that differ, and each view can be
 * made in a common size. */
static void test_views_cover_the_table(void **state)
{
    (void)state;
    st_map_view view, other;
    int seen = 0;
    for (int i = 0; st_map_view_at(i, &view); i++, seen++) {
        char text[ST_SPEC_TEXT + 64];
        st_err e = {0};
        st_spec s;
        for (int k = 0; k < i && st_map_view_at(k, &other); k++)
            assert_string_not_equal(view.label, other.label);
        assert_ok(st_spec_fit(&s, view.fit, 96, 384, 96 * 384 / 2, &e), &e);
        st_spec_print(&s, text);
        strcat(text, view.knobs);
        assert_ok(st_spec_parse(&s, text, 96, 384, &e), &e);
    }
    for (int t = 0; st_map_types[t]; t++) {
        int found = st_map_types[t] == &st_map_dense;
        for (int i = 0; i < seen && st_map_view_at(i, &view); i++) {
            st_spec s;
            assert_ok(st_spec_fit(&s, view.fit, 96, 384, 96 * 384 / 2, NULL), NULL);
            found += s.type == st_map_types[t];
        }
        if (!found) fail_msg("%s is shown by no comparison", st_map_types[t]->name);
    }
    assert_false(st_map_view_at(-1, &view));
    assert_false(st_map_view_at(seen, &view));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_printing_and_parsing_are_inverse),
        cmocka_unit_test(test_every_shape_prints_as_itself),
        cmocka_unit_test(test_wrong_text_is_refused_with_help),
        cmocka_unit_test(test_fitting_comes_near),
        cmocka_unit_test(test_what_cannot_fit_says_what_is_nearest),
        cmocka_unit_test(test_totals_of_the_literature),
        cmocka_unit_test(test_multiply_adds),
        cmocka_unit_test(test_views_cover_the_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
