/* Pieces of a self-contained page: escaping, style, figures as data URIs, sortable tables. */
/* SPDX-License-Identifier: MIT */
#include "report/html.h"
#include "files/files.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Length of the well-formed UTF-8 character at s (RFC 3629), 0 if there is none. */
static int html_character(const unsigned char *s)
{
    int n = s[0] < 0x80   ? 1
            : s[0] < 0xc2 ? 0
            : s[0] < 0xe0 ? 2
            : s[0] < 0xf0 ? 3
            : s[0] < 0xf5 ? 4
                          : 0;
    for (int i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80) return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f)) return 0;
    if ((s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f)) return 0;
    return n;
}

void st_html_text(FILE *f, const char *text)
{
    const unsigned char *s = (const unsigned char *)(text ? text : "");
    while (*s) {
        int n = html_character(s);
        if (n == 0 || *s == 0x7f || (*s < 0x20 && *s != '\n' && *s != '\t')) {
            fputs("\xef\xbf\xbd", f);
            s++;
            continue;
        }
        switch (*s) {
        case '&': fputs("&amp;", f); break;
        case '<': fputs("&lt;", f); break;
        case '>': fputs("&gt;", f); break;
        case '"': fputs("&quot;", f); break;
        case '\'': fputs("&#39;", f); break;
        default: fwrite(s, 1, (size_t)n, f);
        }
        s += n;
    }
}

static const char html_style[] =
    ":root{color-scheme:light dark;--ink:#22242a;--soft:#62656c;--page:#f5f5f3;--card:#fff;"
    "--rule:#dcdcd8;--good:#e4f1ea;--link:#005bb0}\n"
    "@media(prefers-color-scheme:dark){:root{--ink:#e4e5e8;--soft:#a0a3aa;--page:#131416;"
    "--card:#1c1f24;--rule:#34383f;--good:#1d3a2e;--link:#74b4ff}}\n"
    "*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);"
    "font:16px/1.5 system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif}\n"
    "main{max-width:1180px;margin:0 auto;padding:28px 20px 60px}\n"
    "h1{font-size:1.75rem;line-height:1.2;margin:.2em 0}h2{font-size:1.2rem;margin:2.2em 0 .6em}\n"
    "p,li{max-width:80ch}ul.two{columns:2 "
    "440px;column-gap:48px}li{break-inside:avoid}.lead{color:var(--soft);margin-top:.2em}a{color:"
    "var(--link)}\n"
    ".warn{border-left:4px solid #d98a00;background:var(--card);padding:8px 14px}\n"
    ".wide{overflow-x:auto;background:var(--card);border:1px solid var(--rule);border-radius:8px}\n"
    "table{border-collapse:collapse;font-size:.86rem;width:100%}\n"
    "th,td{padding:6px 10px;text-align:right;border-bottom:1px solid var(--rule);"
    "white-space:nowrap}\n"
    "tr:last-child td{border-bottom:0}th{color:var(--soft);font-weight:600;vertical-align:bottom;"
    "white-space:normal}\n"
    "th:first-child,td:first-child{text-align:left;position:sticky;left:0;background:var(--card)}\n"
    "td{font-variant-numeric:tabular-nums}td.text,th.text{text-align:left;white-space:normal}\n"
    "#layers td.text,#models td.text,#attention td.text,#runs td.text{white-space:nowrap}\n"
    "table.sort th{cursor:pointer;user-select:none}table.sort th:hover{color:var(--ink)}\n"
    "th[aria-sort=ascending]::after{content:' \\25B4'}"
    "th[aria-sort=descending]::after{content:' \\25BE'}\n"
    "td.best{background:var(--good);font-weight:600}tr.ref td{font-weight:600}\n"
    ".figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(540px,100%),1fr));"
    "gap:18px}\n"
    "figure{margin:0;background:var(--card);border:1px solid var(--rule);border-radius:8px;"
    "padding:12px}\n"
    "figure.span{grid-column:1/-1}\n"
    "figure img{width:100%;height:auto;display:block}.marks{position:relative}\n"
    ".marks a{position:absolute;width:18px;height:18px;transform:translate(-50%,-50%);"
    "border-radius:50%}.marks a:hover,.marks a:focus{outline:2px solid var(--link)}\n"
    "input.find{font:inherit;padding:4px 10px;margin:0 0 8px;width:min(28em,100%);color:inherit;"
    "background:var(--card);border:1px solid var(--rule);border-radius:8px}\n"
    "pre{font-size:.82rem;line-height:1.35;overflow-x:auto;margin:8px 0}\n"
    "figcaption{color:var(--soft);font-size:.86rem;padding:6px 12px 2px}\n"
    "details{background:var(--card);border:1px solid var(--rule);border-radius:8px;margin:8px 0;"
    "padding:8px 14px}summary{cursor:pointer;font-weight:600}\n"
    "blockquote{margin:8px 0;white-space:pre-wrap;font-family:Georgia,'DejaVu Serif',serif;"
    "overflow-wrap:anywhere}\n"
    "blockquote b{font-weight:600}code{font-size:.88em;overflow-wrap:anywhere}\n"
    "dl{display:grid;grid-template-columns:max-content 1fr;gap:4px 18px;font-size:.92rem}"
    "dt{color:var(--soft)}dd{margin:0;max-width:90ch;overflow-wrap:anywhere}\n"
    "@media print{body{background:#fff}figure,details,.wide{break-inside:avoid}}\n";

static const char html_script[] =
    "document.querySelectorAll('table.sort').forEach(function(t){"
    "var head=t.tHead.rows[0].cells;"
    "Array.prototype.forEach.call(head,function(th,i){th.tabIndex=0;th.onclick=function(){"
    "var up=th.getAttribute('aria-sort')!=='ascending',rows=Array.from(t.tBodies[0].rows);"
    "Array.prototype.forEach.call(head,function(h){h.removeAttribute('aria-sort')});"
    "th.setAttribute('aria-sort',up?'ascending':'descending');"
    "rows.sort(function(a,b){var x=a.cells[i],y=b.cells[i],c;"
    "if(x.hasAttribute('data-v')||y.hasAttribute('data-v')){"
    "x=parseFloat(x.dataset.v);y=parseFloat(y.dataset.v);"
    "if(isNaN(x)||isNaN(y))return isNaN(x)-isNaN(y);c=x-y}"
    "else c=x.textContent.localeCompare(y.textContent);return up?c:-c});"
    "rows.forEach(function(r){t.tBodies[0].appendChild(r)})};"
    "th.onkeydown=function(e){if(e.key==='Enter')th.onclick()}})});\n"
    "document.querySelectorAll('input.find').forEach(function(q){q.oninput=function(){"
    "var t=document.getElementById(q.dataset.of),w=q.value.toLowerCase().split(/\\s+/);"
    "Array.from(t.tBodies[0].rows).forEach(function(r){var s=r.textContent.toLowerCase();"
    "r.hidden=!w.every(function(x){return s.indexOf(x)>=0})})}});\n"
    "function st_open(){var d=location.hash&&document.getElementById(location.hash.slice(1));"
    "if(d&&d.tagName==='DETAILS'){d.open=true;d.scrollIntoView()}}\n"
    "window.addEventListener('hashchange',st_open);st_open();\n";

void st_html_begin(FILE *f, const char *title)
{
    fputs("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n" ST_HTML_MARK
          "\n"
          "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>",
          f);
    st_html_text(f, title);
    fprintf(f, "</title>\n<style>\n%s</style>\n</head>\n<body>\n<main>\n", html_style);
}

bool st_html_ours(const char *path)
{
    char head[512] = "";
    FILE *f = st_path_is_file(path) ? fopen(path, "re") : NULL;
    if (f) head[fread(head, 1, sizeof head - 1, f)] = '\0';
    if (f) fclose(f);
    return strstr(head, ST_HTML_MARK) != NULL;
}

void st_html_end(FILE *f)
{
    fprintf(f, "</main>\n<script>\n%s</script>\n</body>\n</html>\n", html_script);
}

static void html_base64(FILE *f, const char *data, size_t n)
{
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *s = (const unsigned char *)data;
    for (size_t i = 0; i < n; i += 3) {
        unsigned v = (unsigned)s[i] << 16;
        if (i + 1 < n) v |= (unsigned)s[i + 1] << 8;
        if (i + 2 < n) v |= s[i + 2];
        putc(digit[v >> 18], f);
        putc(digit[v >> 12 & 63], f);
        putc(i + 1 < n ? digit[v >> 6 & 63] : '=', f);
        putc(i + 2 < n ? digit[v & 63] : '=', f);
    }
}

static st_status html_source(FILE *f, const st_plot *p, bool dark, st_err *e)
{
    char *svg;
    size_t n;
    ST_TRY(st_plot_svg(p, dark, &svg, &n, e));
    fputs("data:image/svg+xml;base64,", f);
    html_base64(f, svg, n);
    free(svg);
    return ST_OK;
}

st_status st_html_figure(FILE *f, const st_plot *p, const char *alt, const char *caption,
                         const st_html_link *link, size_t links, st_err *e)
{
    fprintf(
        f,
        "<figure%s><div class=\"marks\"><picture><source media=\"(prefers-color-scheme: dark)\" "
        "srcset=\"",
        p->width > 900 ? " class=\"span\"" : "");
    ST_TRY(html_source(f, p, true, e));
    fputs("\"><img alt=\"", f);
    st_html_text(f, alt);
    fputs("\" src=\"", f);
    ST_TRY(html_source(f, p, false, e));
    fputs("\"></picture>", f);
    for (size_t i = 0; i < links; i++) {
        if (!isfinite(link[i].x) || !isfinite(link[i].y)) continue;
        fprintf(f, "<a style=\"left:%.2f%%;top:%.2f%%\" href=\"", 100 * link[i].x, 100 * link[i].y);
        st_html_text(f, link[i].href);
        fputs("\" title=\"", f);
        st_html_text(f, link[i].title);
        fputs("\" aria-label=\"", f);
        st_html_text(f, link[i].title);
        fputs("\"></a>", f);
    }
    fputs("</div><figcaption>", f);
    st_html_text(f, caption);
    fputs("</figcaption></figure>\n", f);
    return ST_OK;
}

void st_html_number(FILE *f, double v, int digits, bool best)
{
    char text[24];
    st_format_number(text, v, digits);
    if (isfinite(v))
        fprintf(f, "<td data-v=\"%.9g\"%s>%s</td>", v, best ? " class=\"best\"" : "", text);
    else
        fprintf(f, "<td data-v=\"\">%s</td>", text);
}
