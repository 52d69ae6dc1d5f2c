/* Checksums over libcrypto's EVP. */
/* SPDX-License-Identifier: MIT */
#include "hub/hub.h"
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

struct st_digest {
    EVP_MD_CTX *md;
};

st_status st_digest_open(st_digest **out, const char *name, st_err *e)
{
    *out = NULL;
    const EVP_MD *kind = EVP_get_digestbyname(name);
    if (!kind) ST_FAIL(e, ST_EUNSUPPORTED, "libcrypto has no %s", name);
    st_digest *d = st_calloc(1, sizeof *d);
    if (d) d->md = EVP_MD_CTX_new();
    if (!d || !d->md || EVP_DigestInit_ex(d->md, kind, NULL) != 1) {
        st_digest_close(d);
        ST_FAIL(e, ST_ENOMEM, "%s: cannot be started", name);
    }
    *out = d;
    return ST_OK;
}

st_status st_digest_add(st_digest *d, const void *data, size_t n, st_err *e)
{
    if (EVP_DigestUpdate(d->md, data, n) == 1) return ST_OK;
    ST_FAIL(e, ST_EIO, "the checksum failed inside libcrypto");
}

st_status st_digest_end(st_digest *d, char *hex, st_err *e)
{
    unsigned char raw[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    bool ok = EVP_DigestFinal_ex(d->md, raw, &n) == 1 && n <= 32;
    for (unsigned i = 0; ok && i < n; i++)
        snprintf(hex + (size_t)2 * i, 3, "%02x", raw[i]);
    st_digest_close(d);
    if (!ok) ST_FAIL(e, ST_EIO, "the checksum failed inside libcrypto");
    return ST_OK;
}

void st_digest_close(st_digest *d)
{
    if (!d) return;
    EVP_MD_CTX_free(d->md);
    free(d);
}
