/* Rows of options that several commands have, so that an option is called, limited and explained
 * the same everywhere. A macro is the inside of a row's braces, which may go on:
 * {CMD_DEVICE}, {CMD_SEED, .help = "of the weights"}. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_CMD_OPTIONS_H
#define ST_CMD_OPTIONS_H

#include "cmd/cmd.h"

/* ---- computing ------------------------------------------------------------------------------- */

#define CMD_DEVICE                                                                                 \
    .name = "device", .kind = CMD_TEXT, .value = "NAME",                                           \
    .help = "cpu, cuda (cuda:1: the second GPU), ref (plain loops), or auto: the GPU if there is " \
            "one, else the cpu",                                                                   \
    .preset = "auto"
#define CMD_DTYPE                                                                                  \
    .name = "dtype", .kind = CMD_TEXT, .value = "TYPE", .choice = "f32|bf16|float32|bfloat16",     \
    .preset = "f32"
#define CMD_DTYPE_COMPUTED CMD_DTYPE, .help = "to compute in"
#define CMD_DTYPE_STORED   CMD_DTYPE, .help = "of the stored weights"
#define CMD_SEED           .name = "seed", .kind = CMD_INT, .value = "N", .preset = "1337"
#define CMD_ATTENTION(what, ways)                                                                  \
    .name = "attention", .kind = CMD_TEXT, .value = "WAY", .help = what ": full, " ways,           \
    .preset = "full"
#define CMD_WAYS_CAUSAL "local:window=N, performer, sblocal, linear"

/* ---- how much -------------------------------------------------------------------------------- */

#define CMD_BATCH                                                                                  \
    .name = "batch", .letter = 'b', .kind = CMD_INT, .value = "N", .lo = 1, .hi = 65536
#define CMD_LIMIT .name = "limit", .letter = 'n', .kind = CMD_INT, .value = "N", .lo = 1, .hi = 9e15
#define CMD_IMAGE_SIZE                                                                             \
    .name = "image-size", .kind = CMD_INT, .value = "PIXELS", .lo = 16, .hi = 8192

/* ---- structure ------------------------------------------------------------------------------- */

#define CMD_PRESET                                                                                 \
    .name = "preset", .letter = 'p', .kind = CMD_TEXT, .value = "NAME",                            \
    .help = "a layout of GPT-2 124M by name, such as krony-81m (see: strut maps); --map wins"
#define CMD_MAPS .name = "map", .letter = 'm', .kind = CMD_TEXT, .many = true, .value = "GLOB=SPEC"

/* ---- files ----------------------------------------------------------------------------------- */

#define CMD_OUT_DIR                                                                                \
    .name = "out", .letter = 'o', .kind = CMD_TEXT, .value = "DIR", .help = "folder to write"
#define CMD_FORCE(what)                                                                            \
    .name = "force", .letter = 'f', .kind = CMD_FLAG, .help = "replace " what " if it exists"
#define CMD_FIELD                                                                                  \
    .name = "field", .kind = CMD_TEXT, .value = "NAME", .preset = "text",                          \
    .help = "of JSON (a.b: in an object), column of tables: where the text is"
#define CMD_STRICT                                                                                 \
    .name = "strict", .kind = CMD_FLAG, .help = "a row without a text is an error, not left out"
#define CMD_NO_SPECIAL(what)                                                                       \
    .name = "no-special", .kind = CMD_FLAG, .help = "special tokens in " what " are ordinary text"
/* Whole rows of commands that read a model: what weights without a config.json leave open. */
#define CMD_READ_OPTIONS                                                                           \
    {.name = "heads",                                                                              \
     .kind = CMD_INT,                                                                              \
     .value = "N",                                                                                 \
     .lo = 1,                                                                                      \
     .hi = 1e6,                                                                                    \
     .help = "attention heads of a MODEL that does not say; not given: width / 64"},               \
        {.name = "gelu",                                                                           \
         .kind = CMD_TEXT,                                                                         \
         .value = "KIND",                                                                          \
         .help = "GELU of the MODEL; not given: as its config.json says, else tanh",               \
         .choice = "tanh|erf"},                                                                    \
        {.name = "dict",                                                                           \
         .kind = CMD_TEXT,                                                                         \
         .value = "KEY",                                                                           \
         .help = "key of a PyTorch file that its weights are under, such as state_dict"},          \
        {.name = "ss1",                                                                            \
         .kind = CMD_TEXT,                                                                         \
         .value = "KEY=N,...",                                                                     \
         .help = "of SS1 layers in a state_dict: version, seed, block_k, block_n, vec, factor, "   \
                 "r0 to r3; not given: 3,1024,32,32,8"},                                           \
        {.name = "no-checksums",                                                                   \
         .kind = CMD_FLAG,                                                                         \
         .help = "read a PyTorch archive's tensors without comparing checksums"},                  \
        {.name = "b2",                                                                             \
         .kind = CMD_INT,                                                                          \
         .value = "N",                                                                             \
         .lo = 1,                                                                                  \
         .hi = 1 << 24,                                                                            \
         .help = "of fly's BlockdiagButterflyLinear in a state_dict: its b2; not given: 1"},       \
    {                                                                                              \
        .name = "tokenizer", .kind = CMD_TEXT, .value = "PATH",                                    \
        .help = "folder or file of the MODEL's tokenizer; not given: the one beside its weights"   \
    }

#endif
