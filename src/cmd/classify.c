/* strut classify: what is on a picture, and how often a model knows it. */
/* SPDX-License-Identifier: MIT */
#include "cmd/options.h"
#include "vision/vision.h"
#include <stdio.h>
#include <string.h>

static const cmd_option classify_options[] = {
    {.name = "imagenet",
     .kind = CMD_TEXT,
     .value = "DIR",
     .help = "measure accuracy on the pictures in DIR/val/<wnid>/, DIR/<wnid>/ or an archive"},
    {.name = "labels",
     .kind = CMD_TEXT,
     .value = "FILE",
     .help = "labels of those pictures: NAME CLASS or NAME WNID a line, Kaggle's CSV, or a WNID a "
             "line; not given: by folder"},
    {CMD_ATTENTION("how token modules attend", "local:window=98, performer:seed=1, sblocal, ...")},
    {.name = "seeds",
     .kind = CMD_INT,
     .value = "N",
     .lo = 1,
     .hi = 1000,
     .help = "of random attention: draw N times, give mean and deviation"},
    {.name = "top",
     .letter = 'k',
     .kind = CMD_INT,
     .value = "N",
     .lo = 1,
     .hi = 1e6,
     .help = "classes to name",
     .preset = "5"},
    {CMD_LIMIT, .help = "of --imagenet: the first N pictures only"},
    {.name = "csv",
     .kind = CMD_TEXT,
     .value = "FILE",
     .help = "of --imagenet: a row for each picture; one that ended early is gone on with"},
    {.name = "replace", .kind = CMD_FLAG, .help = "begin the CSV anew"},
    {CMD_BATCH, .help = "pictures at a time", .preset = "16"},
    {.name = "interp",
     .kind = CMD_TEXT,
     .value = "KIND",
     .help = "resize filter; not given: bicubic",
     .choice = "bicubic|bilinear"},
    {.name = "crop-pct",
     .kind = CMD_NUM,
     .value = "X",
     .lo = 1e-3,
     .hi = 16,
     .help = "side of the crop by the short side after resizing; not given: 0.9"},
    {.name = "mean",
     .kind = CMD_TEXT,
     .value = "R,G,B",
     .help = "subtracted from colours between 0 and 1; not given: ImageNet's"},
    {.name = "std",
     .kind = CMD_TEXT,
     .value = "R,G,B",
     .help = "then they are divided by these; not given: ImageNet's"},
    {CMD_IMAGE_SIZE, .help = "to a side; only what the model reads is accepted"},
    {.name = "dict",
     .kind = CMD_TEXT,
     .value = "KEY",
     .help = "key of a PyTorch file that the weights are under; not given: state_dict_ema, ..."},
    {.name = "exif", .kind = CMD_FLAG, .help = "turn pictures as their EXIF orientation says"},
    {.name = "max-pixels",
     .kind = CMD_INT,
     .value = "N",
     .lo = 1,
     .hi = 4e9,
     .help = "larger pictures count as broken; not given: 89,478,485"},
    {CMD_DTYPE_COMPUTED},
    {CMD_DEVICE},
    {0},
};

/* What belongs to --imagenet only. */
static st_status classify_check(const cmd_args *a, st_err *e)
{
    static const char *const eval[] = {"labels", "seeds", "limit", "csv", "replace"};
    bool data = cmd_has(a, "imagenet");
    if (data && a->words > 1) {
        ST_FAIL(e, ST_EARG, "--imagenet and pictures ('%s') at once; give one of them", a->word[1]);
    }
    if (!data && a->words < 2) {
        ST_FAIL(e, ST_EARG,
                "no picture given; expected files, folders or archives after the "
                "model, or --imagenet DIR");
    }
    for (size_t i = 0; !data && i < sizeof eval / sizeof *eval; i++) {
        if (cmd_has(a, eval[i])) ST_FAIL(e, ST_EARG, "--%s needs --imagenet DIR", eval[i]);
    }
    if (cmd_has(a, "replace") && !cmd_has(a, "csv")) ST_FAIL(e, ST_EARG, "--replace needs --csv");
    if (data && cmd_has(a, "top"))
        ST_FAIL(e, ST_EARG, "--top is for pictures; with --imagenet top-1 and top-5 are measured");
    return ST_OK;
}

static st_status classify_run(const cmd_args *a, json_t **result, st_err *e)
{
    st_classify_opts o = {.attention = cmd_text(a, "attention"),
                          .top = cmd_int(a, "top"),
                          .logits = a->json,
                          .interp = cmd_text(a, "interp"),
                          .crop = cmd_num(a, "crop-pct"),
                          .mean = cmd_text(a, "mean"),
                          .std = cmd_text(a, "std"),
                          .size = cmd_int(a, "image-size"),
                          .exif = cmd_has(a, "exif"),
                          .max_pixels = cmd_int(a, "max-pixels"),
                          .batch = cmd_int(a, "batch"),
                          .threads = (int)a->threads,
                          .dtype = cmd_dtype(a, "dtype"),
                          .device = cmd_text(a, "device"),
                          .how = {.dict = cmd_text(a, "dict")},
                          .labels = cmd_text(a, "labels"),
                          .csv = cmd_text(a, "csv"),
                          .replace = cmd_has(a, "replace"),
                          .limit = cmd_int(a, "limit"),
                          .seeds = cmd_int(a, "seeds")};
    ST_TRY(classify_check(a, e));
    if (cmd_has(a, "imagenet"))
        return st_classify_eval(a->word[0], cmd_text(a, "imagenet"), &o, result, e);
    return st_classify(a->word[0], a->word + 1, a->words - 1, &o, result, e);
}

static void classify_show_image(const json_t *row)
{
    size_t k;
    const json_t *top;
    cmd_put(stdout, cmd_get_str(row, "path"));
    if (json_object_get(row, "error")) {
        printf("\n  broken: ");
        cmd_put(stdout, cmd_get_str(row, "error"));
        printf("\n");
        return;
    }
    printf("\n");
    json_array_foreach(json_object_get(row, "top"), k, top)
    {
        const char *id = cmd_get_str(top, "id");
        printf("  %6.2f %%  %s%s%s\n", 100.0 * cmd_get_num(top, "probability"), id, *id ? "  " : "",
               cmd_get_str(top, "name"));
    }
}

static void classify_show_transform(const json_t *r)
{
    const json_t *t = json_object_get(r, "transform");
    int64_t read = cmd_get_int(r, json_object_get(r, "classified") ? "classified" : "images");
    printf("images      %s", cmd_count(read).s);
    if (cmd_get_int(r, "broken")) printf(", %s broken", cmd_count(cmd_get_int(r, "broken")).s);
    printf("; %s images/s\n", cmd_number(cmd_get_num(r, "images_per_second")).s);
    printf("transform   %s, short side %lld, middle %lld\n", cmd_get_str(t, "interpolation"),
           (long long)cmd_get_int(t, "resize"), (long long)cmd_get_int(t, "size"));
}

static void classify_show_accuracy(const json_t *r)
{
    bool several = cmd_get_int(r, "seeds") > 1;
    const char *std[] = {"top1_std", "top5_std", "loss_std"};
    char spread[3][48] = {"", "", ""};
    for (int i = 0; i < 3 && several; i++) {
        snprintf(spread[i], sizeof spread[i], " +- %.4f over seeds",
                 (i < 2 ? 100.0 : 1.0) * cmd_get_num(r, std[i]));
    }
    printf("top-1       %.3f %%%s (standard error %.3f)\n", 100.0 * cmd_get_num(r, "top1"),
           spread[0], 100.0 * cmd_get_num(r, "top1_stderr"));
    printf("top-5       %.3f %%%s\n", 100.0 * cmd_get_num(r, "top5"), spread[1]);
    printf("loss        %.5f%s\n", cmd_get_num(r, "loss"), spread[2]);
    printf("data        %s, labels by %s", cmd_get_str(r, "data"), cmd_get_str(r, "labels"));
    if (cmd_get_int(r, "classes")) printf(", %s classes", cmd_count(cmd_get_int(r, "classes")).s);
    printf("\n");
    classify_show_transform(r);
    if (cmd_get_int(r, "resumed"))
        printf("resumed     after %s images\n", cmd_count(cmd_get_int(r, "resumed")).s);
    printf("computed    %s, attention %s, %s\n", cmd_get_str(r, "dtype"),
           cmd_get_str(r, "attention"), cmd_get_str(r, "device"));
}

static void classify_show(const json_t *r)
{
    size_t i;
    const json_t *row, *images = json_object_get(r, "images");
    if (!json_is_array(images)) {
        classify_show_accuracy(r);
        return;
    }
    json_array_foreach(images, i, row) classify_show_image(row);
    classify_show_transform(r);
}

const cmd_command cmd_classify = {
    .name = "classify",
    .summary = "say what is on pictures, or measure how often a model is right",
    .usage = "MODEL PICTURE|FOLDER|ARCHIVE ... [options]\n"
             "MODEL --imagenet DIR|ARCHIVE [options]",
    .detail =
        "Pictures are JPEG or PNG, told by their content; folders and archives (.tar, .zip, "
        "compressed or in each other) are searched for them. Pixels, resizing, crop and "
        "normalisation are Pillow's and torchvision's to the last bit. A picture that cannot be "
        "read is named and counted, and the others go on.\n"
        "With --imagenet, a picture's class is the folder that it is in: by its WordNet id, so "
        "that a part of ImageNet will do; or, where folders are no ids and as many as the "
        "classes, by the rank of their names. With --csv FILE an evaluation that was interrupted "
        "goes on where it ended; FILE.json has its settings, which must be the same.",
    .example = "strut classify t2t-vit-t-14/ photo.jpg more/*.png\n"
               "strut classify t2t-vit-t-14/ --imagenet /data/imagenet --csv full.csv\n"
               "strut classify t2t-vit-t-14/ --imagenet val.tar --labels val.txt --attention local",
    .option = classify_options,
    .least = 1,
    .most = -1,
    .run = classify_run,
    .show = classify_show,
};
