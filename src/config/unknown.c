/* Keys that are not in the table of settings: which was meant. */
/* SPDX-License-Identifier: MIT */
#include "config/value.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What other programs call things: fly and its fork (dotted), nanoGPT and llm.c, Hugging Face. A
 * key is looked up whole, then by its ends ("config.n_embd" by "n_embd"). */
static const struct {
    const char *theirs, *ours;
} unknown_hint[] = {
    {"_target_", "nothing: no class is made here; remove the line"},
    {"optimizer.lr", "train.lr"},
    {"learning_rate", "train.lr"},
    {"optimizer.weight_decay", "train.weight_decay"},
    {"optimizer.betas", "train.beta1 and train.beta2"},
    {"adam_beta1", "train.beta1"},
    {"adam_beta2", "train.beta2"},
    {"optimizer.eps", "train.eps"},
    {"adam_epsilon", "train.eps"},
    {"embedding_weight_decay", "train.decay_embeddings"},
    {"scheduler.num_warmup_steps", "train.warmup"},
    {"warmup_iters", "train.warmup"},
    {"warmup_steps", "train.warmup"},
    {"scheduler.num_training_steps", "train.decay_steps"},
    {"lr_decay_iters", "train.decay_steps"},
    {"learning_rate_decay_frac", "train.min_lr"},
    {"lr_scheduler_type", "train.schedule"},
    {"decay_lr", "train.schedule (constant)"},
    {"trainer.max_steps", "train.steps"},
    {"max_steps", "train.steps"},
    {"max_iters", "train.steps"},
    {"num_iterations", "train.steps"},
    {"trainer.max_epochs", "train.epochs"},
    {"max_epochs", "train.epochs"},
    {"num_train_epochs", "train.epochs"},
    {"trainer.gradient_clip_val", "train.clip"},
    {"max_grad_norm", "train.clip"},
    {"grad_clip", "train.clip"},
    {"trainer.precision", "dtype"},
    {"trainer.accelerator", "device"},
    {"trainer.accumulate_grad_batches", "train.tokens_per_step"},
    {"gradient_accumulation_steps", "train.tokens_per_step"},
    {"total_batch_size", "train.tokens_per_step"},
    {"global_batch_size", "train.tokens_per_step (sequences x train.context)"},
    {"trainer.val_check_interval", "eval.every"},
    {"val_check_interval", "eval.every"},
    {"eval_interval", "eval.every"},
    {"eval_steps", "eval.every"},
    {"val_loss_every", "eval.every"},
    {"eval_iters", "eval.batches"},
    {"val_max_steps", "eval.batches"},
    {"trainer.limit_val_batches", "eval.batches"},
    {"log_every_n_steps", "log.every"},
    {"log_interval", "log.every"},
    {"logging_steps", "log.every"},
    {"save_steps", "ckpt.every"},
    {"save_top_k", "ckpt.top_k"},
    {"every_n_train_steps", "ckpt.every"},
    {"early_stopping.patience", "stop.patience"},
    {"early_stopping_patience", "stop.patience"},
    {"early_stopping.monitor", "stop.monitor"},
    {"early_stopping.min_delta", "stop.min_delta"},
    {"ema.decay", "train.ema"},
    {"ema_decay", "train.ema"},
    {"norm_monitor", "log.norms"},
    {"checkpoint_every", "ckpt.every"},
    {"always_save_checkpoint", "ckpt.best"},
    {"save_total_limit", "ckpt.keep"},
    {"init_from", "init"},
    {"warmstart.path", "init"},
    {"model_name_or_path", "init"},
    {"out_dir", "out"},
    {"output_dir", "out"},
    {"output_log_dir", "out"},
    {"run.dir", "out"},
    {"sweep.dir", "out"},
    {"wandb_run_name", "name"},
    {"run_name", "name"},
    {"datamodule.batch_size", "train.micro_batch"},
    {"per_device_train_batch_size", "train.micro_batch"},
    {"batch_size", "train.micro_batch"},
    {"datamodule.max_length", "train.context"},
    {"max_length", "train.context"},
    {"block_size", "train.context"},
    {"sequence_length", "train.context"},
    {"n_ctx", "train.context"},
    {"datamodule.data_dir", "data.dir"},
    {"data_dir", "data.dir"},
    {"dataset", "data.dir"},
    {"train_files", "data.train"},
    {"val_files", "data.val"},
    {"resid_pdrop", "train.dropout"},
    {"embd_pdrop", "train.dropout"},
    {"attn_pdrop", "train.dropout"},
    {"resid_dropout", "train.dropout"},
    {"n_inner", "model.n_inner"},
    {"hidden_features", "model.n_inner"},
    {"mlp_cfg.linear1_cfg", "model.mlp.map"},
    {"mlp_cfg.linear2_cfg", "model.mlp.map"},
    {"mlp_cfg", "model.mlp.map"},
    {"linear1_cfg", "model.mlp.map"},
    {"linear2_cfg", "model.mlp.map"},
    {"kqv", "model.attn.map"},
    {"attn_cfg", "model.attn.map"},
    {"redn_factor", "model.mlp.map=ss1:factor=N"},
    {"nblocks", "model.mlp.map=monarch:blocks=N"},
    {"gpt2model", "the group size (small, medium, large, xl)"},
    {"model/gpt2model", "the group size (small, medium, large, xl)"},
    {"model/gpt2_mlp_cfg", "the group mlp (ssl, monarch, fbbfly ...)"},
    {"model/ssl_mlp_cfg", "the groups attn and head (ssl)"},
    {"model/monarch_mlp_cfg", "the groups attn and head (monarch)"},
    {"model/lowrank_mlp_cfg", "the groups attn and head (lowrank)"},
    {"datamodule", "the group dataset (wt103, owt), or data"},
    {"optimizer", "the group recipe (fly), or train.*"},
    {"scheduler", "the group recipe (fly), or train.schedule"},
    {"trainer", "the group recipe (fly), or train.*"},
    {"callbacks", "stop.*, ckpt.*, train.ema and log.*"},
    {"logger", "log.tensorboard (CSV and JSON lines are always written)"},
    {"tie_weights", "nothing: layers do not share matrices here"},
};

/* Is `end` the key, or what stands after one of its dots? */
static bool unknown_ends(const char *key, const char *end)
{
    size_t n = strlen(key), m = strlen(end);
    return m <= n && !strcmp(key + n - m, end) && (m == n || key[n - m - 1] == '.');
}

/* The longest of their names that the key ends with. */
static const char *unknown_foreign(const char *key)
{
    const char *ours = NULL;
    size_t best = 0;
    for (size_t i = 0; i < sizeof unknown_hint / sizeof *unknown_hint; i++) {
        size_t n = strlen(unknown_hint[i].theirs);
        if (n <= best || !unknown_ends(key, unknown_hint[i].theirs)) continue;
        best = n;
        ours = unknown_hint[i].ours;
    }
    return ours;
}

static const char *config_leaf(const char *key)
{
    const char *dot = strrchr(key, '.');
    return dot ? dot + 1 : key;
}

/* Length of the common end of two keys. */
static size_t config_tail(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b), k = 0;
    while (k < n && k < m && a[n - 1 - k] == b[m - 1 - k])
        k++;
    return k;
}

/* The legal key that was probably meant: the same last name elsewhere ("optim.lr" -> "train.lr"),
 * else the nearest spelling of the whole, else of the last name. */
static const char *config_near(const char *key)
{
    const char *whole[128], *leaf[128], *same = NULL;
    int n = st_set_count();
    for (int i = 0; i < n; i++) {
        whole[i] = st_set_rows[i].key;
        leaf[i] = config_leaf(whole[i]);
        if (strcmp(leaf[i], config_leaf(key)) != 0) continue;
        if (!same || config_tail(whole[i], key) > config_tail(same, key)) same = whole[i];
    }
    whole[n] = leaf[n] = NULL;
    const char *near = same ? same : st_nearest(key, whole);
    if (near) return near;
    near = st_nearest(config_leaf(key), leaf);
    for (int i = 0; near && i < n; i++)
        if (leaf[i] == near) return whole[i];
    return NULL;
}

void config_hint_group(const char *word, st_err *e)
{
    char key[128], old[sizeof e->msg];
    size_t n = strcspn(word, "=@");
    if (!e || !memchr(word, '/', n) || n >= sizeof key) return;
    snprintf(key, sizeof key, "%.*s", (int)n, word + strspn(word, "+~"));
    const char *ours = unknown_foreign(key);
    if (!ours || strstr(e->msg, ours) || strstr(e->msg, "did you mean")) return;
    memcpy(old, e->msg, sizeof old);
    snprintf(e->msg, sizeof e->msg, "%.*s; did you mean %s?", (int)sizeof old - 100, old, ours);
}

bool config_is_section(const char *key)
{
    size_t n = strlen(key);
    for (int i = 0; i < st_set_count(); i++)
        if (strncmp(st_set_rows[i].key, key, n) == 0 && st_set_rows[i].key[n] == '.') return true;
    return false;
}

st_status config_unknown(const char *key, const st_node *v, const char *where, const st_configs *c,
                         st_err *e)
{
    char found[96], name[128], group[128 + sizeof "the group "];
    if (config_is_section(key)) {
        ST_FAIL(e, ST_EARG, "%s: %s: found %s, expected a section with keys (strut train --keys)",
                v->where, key, config_found(v, found, sizeof found));
    }
    const char *near = unknown_foreign(key);
    if (!near) {
        near = config_near(key);
        const char *like = c && !strchr(key, '.') && v->kind == ST_NODE_SCALAR
                               ? st_configs_near_group(c, key, name, sizeof name)
                               : NULL;
        if (like && (!near || st_nearest(key, (const char *const[]){near, like, NULL}) == like)) {
            snprintf(group, sizeof group, "the group %s", like);
            near = group;
        }
    }
    ST_FAIL(e, ST_EARG, "%s: unknown key %s%s%s%s; all keys: strut train --keys", where, key,
            near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
}
