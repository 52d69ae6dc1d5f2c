/* strut maps: the matrix types, their knobs, equations and sources. */
/* SPDX-License-Identifier: MIT */
#include "cmd/cmd.h"
#include <stdio.h>

static st_status maps_run(const cmd_args *a, json_t **result, st_err *e)
{
    return st_maps(a->words ? a->word[0] : NULL, result, e);
}

static void maps_show_init(const json_t *init)
{
    size_t i;
    json_t *knob;
    printf("  init %-10s %s\n", cmd_get_str(init, "name"), cmd_get_str(init, "help"));
    json_array_foreach(json_object_get(init, "knobs"), i, knob)
    {
        const char *words = cmd_get_str(knob, "words");
        printf("    %s: %s%s%s", cmd_get_str(knob, "name"), cmd_get_str(knob, "help"),
               words[0] ? "; or " : "", words);
        if (json_is_number(json_object_get(knob, "default")))
            printf(" (default %.6g)", cmd_get_num(knob, "default"));
        putchar('\n');
    }
}

static void maps_show_presets(const json_t *presets)
{
    size_t i;
    json_t *p;
    if (!presets) return;
    puts("\nLayouts of GPT-2 124M by name (--preset in init and decompose, model.map_preset):");
    json_array_foreach(presets, i, p)
    {
        printf("  %-16s %11s  %s\n", cmd_get_str(p, "name"),
               cmd_count(cmd_get_int(p, "parameters")).s, cmd_get_str(p, "help"));
    }
}

static void maps_show(const json_t *result)
{
    size_t i, j;
    json_t *type, *knob;
    json_array_foreach(json_object_get(result, "maps"), i, type)
    {
        printf("%s%s: %s\n", i ? "\n" : "", cmd_get_str(type, "name"),
               cmd_get_str(type, "summary"));
        printf("  %s\n", cmd_get_str(type, "equation"));
        json_array_foreach(json_object_get(type, "knobs"), j, knob)
        {
            printf("  %-10s %s", cmd_get_str(knob, "name"), cmd_get_str(knob, "help"));
            if (json_is_true(json_object_get(knob, "required")))
                printf(" (required)\n");
            else
                printf(" (default %lld)\n", (long long)cmd_get_int(knob, "default"));
        }
        json_array_foreach(json_object_get(type, "inits"), j, knob)
        {
            maps_show_init(knob);
        }
        const char *source = cmd_get_str(type, "source");
        if (source[0]) printf("  source: %s\n", source);
    }
    maps_show_presets(json_object_get(result, "presets"));
    puts("\nA matrix is given as TYPE:KNOB=VALUE,... and two types as a sum: "
         "lowrank:rank=8+monarch:blocks=4.");
}

const cmd_command cmd_maps = {
    .name = "maps",
    .summary = "the matrix types, their knobs and equations",
    .usage = "[TYPE]",
    .detail = "W is (out, in) and y = W x. Any of these types can stand where a transformer has a "
              "dense matrix: --map GLOB=TYPE:KNOB=VALUE,... in init and decompose, model.maps in a "
              "training configuration.",
    .example = "strut maps\nstrut maps monarch --json",
    .least = 0,
    .most = 1,
    .run = maps_run,
    .show = maps_show,
};
