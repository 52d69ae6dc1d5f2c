/* The commands of strut, in the order of the help. */
/* SPDX-License-Identifier: MIT */
#include "cmd/cmd.h"
#include <string.h>

/* One file each, its command at the end. */
extern const cmd_command cmd_tokenizer, cmd_prepare, cmd_init, cmd_train, cmd_decompose,
    cmd_convert, cmd_perplexity, cmd_classify, cmd_fetch, cmd_generate, cmd_maps, cmd_bench,
    cmd_info, cmd_demo, cmd_report, cmd_completion;

const cmd_command *const cmd_table[] = {
    &cmd_tokenizer,  &cmd_prepare,  &cmd_init,     &cmd_train,      &cmd_decompose, &cmd_convert,
    &cmd_perplexity, &cmd_classify, &cmd_generate, &cmd_fetch,      &cmd_info,      &cmd_bench,
    &cmd_report,     &cmd_maps,     &cmd_demo,     &cmd_completion, NULL,
};

const cmd_command *cmd_find(const char *name)
{
    for (int i = 0; cmd_table[i]; i++) {
        if (strcmp(cmd_table[i]->name, name) == 0) return cmd_table[i];
    }
    return NULL;
}
