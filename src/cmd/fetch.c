/* strut fetch: files from the Hugging Face Hub. */
/* SPDX-License-Identifier: MIT */
#include "cmd/cmd.h"
#include "hub/hub.h"
#include <stdio.h>

static const cmd_option fetch_options[] = {
    {.name = "dataset", .kind = CMD_FLAG, .help = "the repository is a data set, not a model"},
    {.name = "revision",
     .kind = CMD_TEXT,
     .value = "REV",
     .help = "branch, tag or commit (also REPO@REV)"},
    {.name = "to",
     .kind = CMD_TEXT,
     .value = "DIR",
     .help = "put plain files into DIR instead of the Hub's cache"},
    {.name = "tries",
     .kind = CMD_INT,
     .value = "N",
     .lo = 1,
     .hi = 100,
     .help = "how often a request is tried when the failure may pass",
     .preset = "5"},
    {0},
};

static st_status fetch_run(const cmd_args *a, json_t **result, st_err *e)
{
    st_fetch_opts o = {.revision = cmd_text(a, "revision"),
                       .dataset = cmd_has(a, "dataset"),
                       .files = a->word + 1,
                       .nfiles = a->words - 1,
                       .to = cmd_text(a, "to"),
                       .tries = cmd_int(a, "tries")};
    return st_fetch(a->word[0], &o, result, e);
}

static void fetch_show(const json_t *r)
{
    size_t i;
    const json_t *f;
    json_array_foreach(json_object_get(r, "files"), i, f)
    {
        printf("%-9s %10s  %s\n",
               json_is_true(json_object_get(f, "fetched")) ? "fetched" : "present",
               json_object_get(f, "bytes") ? cmd_bytes(cmd_get_int(f, "bytes")).s : "",
               cmd_get_str(f, "name"));
    }
    printf("%s@%s is in %s\n", cmd_get_str(r, "repo"), cmd_get_str(r, "revision"),
           cmd_get_str(r, "folder"));
}

const cmd_command cmd_fetch = {
    .name = "fetch",
    .summary = "download a model or data set from the Hugging Face Hub",
    .usage = "REPO[@REV] [FILE|GLOB ...] [options]",
    .detail =
        "Files go into the cache that Hugging Face's own programs use ($HF_HUB_CACHE, $HF_HOME/hub "
        "or ~/.cache/huggingface/hub), or with --to into a folder. Without names: what strut reads "
        "of a model (config, tokenizer, safetensors or else .bin weights), all of a data set; '*' "
        "is all of anything. Files that are there stay; a broken download goes on where it "
        "stopped; sizes and checksums are verified.\n"
        "Environment: HF_TOKEN (or the token file) for what is not public, HF_ENDPOINT for a "
        "mirror, HF_HUB_OFFLINE=1 to use only the cache.",
    .example = "strut fetch openai-community/gpt2\n"
               "strut fetch distilbert/distilgpt2 --to distilgpt2/\n"
               "strut fetch Salesforce/wikitext 'wikitext-2-raw-v1/*' --dataset",
    .option = fetch_options,
    .least = 1,
    .most = -1,
    .run = fetch_run,
    .show = fetch_show,
};
