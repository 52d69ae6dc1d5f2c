/* One HTTP request at a time over libcurl. Who retries, and what an answer means, is the job's. */
/* SPDX-License-Identifier: MIT */
#include "hub/hub.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *st_url_escape(const char *text, bool slash)
{
    char *out = malloc(strlen(text) * 3 + 1), *p = out;
    for (; out && *text; text++) {
        unsigned char c = (unsigned char)*text;
        if ((c < 128 && isalnum(c)) || strchr("-._~", c) || (slash && c == '/'))
            *p++ = (char)c;
        else
            p += sprintf(p, "%%%02X", c);
    }
    if (out) *p = '\0';
    return out;
}

#if ST_CURL
#include <curl/curl.h>

typedef struct {
    const st_http_request *r;
    st_http_answer *a;
    CURL *curl;
    long status; /* of the answer whose headers are being read */
    int64_t from;
    bool began;
    st_status failed; /* of take or begin */
    st_err err;
} http_run;

/* "NAME: VALUE" of a header line -> VALUE into `out`, quotes and a weak etag's W/ taken off. */
static bool http_header(const char *line, size_t n, const char *name, char *out, size_t cap)
{
    size_t m = strlen(name);
    if (n <= m || line[m] != ':') return false;
    for (size_t i = 0; i < m; i++)
        if (tolower((unsigned char)line[i]) != name[i]) return false;
    const char *s = line + m + 1, *end = line + n;
    while (s < end && isspace((unsigned char)*s))
        s++;
    while (end > s && isspace((unsigned char)end[-1]))
        end--;
    if (end - s > 2 && s[0] == 'W' && s[1] == '/') s += 2;
    if (end - s >= 2 && *s == '"' && end[-1] == '"') s++, end--;
    snprintf(out, cap, "%.*s", (int)(end - s), s);
    return true;
}

/* Of redirects the Hub's own answer comes first: its headers are kept. */
static size_t http_on_header(char *line, size_t size, size_t count, void *ctx)
{
    http_run *h = ctx;
    size_t n = size * count;
    char value[160];
    int64_t number;
    if (n > 5 && strncmp(line, "HTTP/", 5) == 0) {
        const char *space = memchr(line, ' ', n);
        h->status = space ? strtol(space, NULL, 10) : 0;
        h->from = 0;
    } else if (http_header(line, n, "x-linked-etag", value, sizeof value)) {
        snprintf(h->a->etag, sizeof h->a->etag, "%s", value);
    } else if (http_header(line, n, "etag", value, sizeof value)) {
        if (!*h->a->etag) snprintf(h->a->etag, sizeof h->a->etag, "%s", value);
    } else if (http_header(line, n, "x-repo-commit", value, sizeof value)) {
        if (!*h->a->commit) snprintf(h->a->commit, sizeof h->a->commit, "%s", value);
    } else if (http_header(line, n, "x-error-code", value, sizeof value)) {
        snprintf(h->a->error, sizeof h->a->error, "%s", value);
    } else if (http_header(line, n, "x-linked-size", value, sizeof value)) {
        if (st_parse_int(value, &number) && number >= 0) h->a->length = number;
    } else if (http_header(line, n, "retry-after", value, sizeof value)) {
        if (st_parse_int(value, &number) && number >= 0) h->a->retry_after = number;
    } else if (http_header(line, n, "content-range", value, sizeof value)) {
        long long at = 0;
        if (sscanf(value, "bytes %lld-", &at) == 1 && at >= 0) h->from = at;
    }
    return n;
}

static size_t http_on_body(char *data, size_t size, size_t count, void *ctx)
{
    http_run *h = ctx;
    size_t n = size * count;
    if (h->status < 200 || h->status > 299) return n; /* an error page, or a redirect's */
    if (!h->began && h->r->begin) {
        h->failed = h->r->begin(h->r->ctx, h->status == 206 ? h->from : 0, &h->err);
    }
    h->began = true;
    if (!h->failed && h->r->take) h->failed = h->r->take(h->r->ctx, data, n, &h->err);
    return h->failed ? 0 : n;
}

static int http_on_progress(void *ctx, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    (void)ctx, (void)a, (void)b, (void)c, (void)d;
    return st_interrupted();
}

static void http_options(http_run *h, const char *range)
{
    const st_http_request *r = h->r;
    const char *down = strncmp(r->url, "https:", 6) == 0 ? "https" : "http,https";
    CURL *c = h->curl;
    curl_easy_setopt(c, CURLOPT_URL, r->url);
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c, CURLOPT_REDIR_PROTOCOLS_STR, down);
    curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, r->head ? 0L : 1L);
    curl_easy_setopt(c, CURLOPT_MAXREDIRS, 10L);
    curl_easy_setopt(c, CURLOPT_USERAGENT, "strut/" ST_VERSION);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, 20L);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, (long)(r->stall ? r->stall : 30));
    curl_easy_setopt(c, CURLOPT_NOBODY, r->head ? 1L : 0L);
    curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, http_on_header);
    curl_easy_setopt(c, CURLOPT_HEADERDATA, h);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, http_on_body);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, h);
    curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, http_on_progress);
    curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
    if (r->from > 0) curl_easy_setopt(c, CURLOPT_RANGE, range);
    /* No CURLOPT_UNRESTRICTED_AUTH: the token does not follow a redirect to another host. */
    if (r->token) {
        curl_easy_setopt(c, CURLOPT_HTTPAUTH, CURLAUTH_BEARER);
        curl_easy_setopt(c, CURLOPT_XOAUTH2_BEARER, r->token);
    }
}

static void http_host(http_run *h)
{
    char *url = NULL;
    curl_easy_getinfo(h->curl, CURLINFO_EFFECTIVE_URL, &url);
    const char *host = url ? strstr(url, "://") : NULL;
    host = host ? host + 3 : "";
    snprintf(h->a->host, sizeof h->a->host, "%.*s", (int)strcspn(host, "/?#"), host);
}

st_status st_http(const st_http_request *r, st_http_answer *answer, st_err *e)
{
    http_run h = {.r = r, .a = answer};
    char why[CURL_ERROR_SIZE] = "", range[32];
    *answer = (st_http_answer){.length = -1};
    if (curl_global_init(CURL_GLOBAL_DEFAULT)) ST_FAIL(e, ST_EUNSUPPORTED, "libcurl cannot start");
    h.curl = curl_easy_init();
    if (!h.curl) return ST_NOMEM(e, NULL);
    snprintf(range, sizeof range, "%lld-", (long long)r->from);
    http_options(&h, range);
    curl_easy_setopt(h.curl, CURLOPT_ERRORBUFFER, why);
    CURLcode code = curl_easy_perform(h.curl);
    curl_off_t length = -1;
    http_host(&h);
    answer->status = (int)h.status;
    curl_easy_getinfo(h.curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    if (answer->length < 0 && length >= 0) answer->length = length + (h.status == 206 ? h.from : 0);
    curl_easy_cleanup(h.curl);
    if (h.failed) {
        if (e) *e = h.err;
        return h.failed;
    }
    if (code == CURLE_OK) return ST_OK;
    if (st_interrupted()) ST_FAIL(e, ST_EINTR, "interrupted");
    if (!h.began && code != CURLE_PARTIAL_FILE) answer->status = 0;
    ST_FAIL(e, ST_EIO, "%s: %s", answer->host, *why ? why : curl_easy_strerror(code));
}

#else

st_status st_http(const st_http_request *r, st_http_answer *answer, st_err *e)
{
    *answer = (st_http_answer){.length = -1};
    ST_FAIL(e, ST_EUNSUPPORTED,
            "%s: this strut was built without libcurl (ST_CURL=OFF) and downloads nothing", r->url);
}

#endif
