#!/usr/bin/env python3
"""A Hub on loopback for test/hub/fetch.bats: hub_server.py PORTFILE LOG. Repositories misbehave by
their name. Two ports: files in large storage are at the second one, under another host name."""
# SPDX-License-Identifier: MIT
import hashlib
import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SMALL = b'{"model_type": "gpt2"}\n'
LARGE = bytes((i * 7919 + i // 251) & 255 for i in range(300000))
WIKI = "wikitext-2-raw-v1/test-00000-of-00001.parquet"
with open("test/fixtures/eval/wiki.parquet", "rb") as f:
    TABLE = f.read()
TOKEN = "hf_secret"
seen, lock = {}, threading.Lock()


def times(key):
    with lock:
        seen[key] = seen.get(key, 0) + 1
        return seen[key]


def git_sha1(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def sibling(name, data, large):
    entry = {"rfilename": name, "size": len(data), "blobId": git_sha1(data)}
    if large:
        entry["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
    return entry


class Hub(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    storage = None

    def log_message(self, *_):
        pass

    def note(self):
        auth = self.headers.get("Authorization", "-").replace(" ", "_")
        with lock, open(sys.argv[2], "a") as f:
            f.write(f"{'storage' if self.storage_side else 'hub'} {self.command} {self.path} "
                    f"range={self.headers.get('Range', '-')} auth={auth}\n")

    @property
    def storage_side(self):
        return self.server.server_port == Hub.storage

    def answer(self, status, body=b"", headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        self.note()
        parts = self.path.split("?")[0].strip("/").split("/")
        try:
            if self.storage_side:
                self.content(parts[0], LARGE)
            elif parts[0] == "api":
                self.api("/".join(parts[2:4]), parts[3], parts[-1])
            else:
                repo = parts[2] if parts[0] == "datasets" else parts[1]
                self.file(repo, "/".join(parts[parts.index("resolve") + 2:]))
        except (BrokenPipeError, ConnectionResetError):
            pass

    def api(self, path, repo, revision):
        if repo == "gated":
            return self.answer(403)
        if repo == "secret" and self.headers.get("Authorization") != "Bearer " + TOKEN:
            return self.answer(401)
        if repo == "missing" or revision not in ("main", "v1", COMMIT):
            return self.answer(404, headers=[("X-Error-Code", "RevisionNotFound" if repo != "missing" else "RepoNotFound")])
        if repo == "broken":
            return self.answer(500)
        if repo == "busy" and times("busy") <= 2:
            return self.answer(429, headers=[("Retry-After", "0")])
        if repo == "huge":
            self.send_response(200)
            self.send_header("Connection", "close")
            self.end_headers()
            for _ in range(70):
                self.wfile.write(b" " * (1 << 20))
            return None
        if repo == "nonsense":
            return self.answer(200, b"<html>a login page</html>")
        files = [sibling("config.json", SMALL, False), sibling("model.safetensors", LARGE, True),
                 sibling("onnx/model [1].onnx", SMALL, False), sibling(".gitattributes", b"*\n", False)]
        if repo == "evil":
            files.append(sibling("../../../evil", SMALL, False))
        if repo == "wide":
            files = [sibling("model.safetensors", b"x" * 10, True)]
            files[0]["lfs"]["size"] = files[0]["size"] = 1 << 60
        if repo == "wikitext":
            files = [sibling(WIKI, TABLE, False)]
        if repo == "mirror":
            files = [{"rfilename": "config.json"}, {"rfilename": "model.safetensors"}]
        return self.answer(200, json.dumps({"id": path, "sha": COMMIT, "siblings": files}).encode())

    def file(self, repo, name):
        if name != "model.safetensors":
            data = {".gitattributes": b"*\n", WIKI: TABLE}.get(name, SMALL)
            return self.answer(200, data, [("ETag", f'"{git_sha1(data)}"'), ("X-Repo-Commit", COMMIT)])
        return self.answer(302, headers=[
            ("Location", f"http://localhost:{Hub.storage}/{repo}"), ("X-Repo-Commit", COMMIT),
            ("X-Linked-Etag", f'"{hashlib.sha256(LARGE).hexdigest()}"'), ("X-Linked-Size", str(len(LARGE)))])

    def content(self, repo, data):
        if repo == "wrong":
            data = data[:-1] + b"!"
        start, status = 0, 200
        if "Range" in self.headers and repo != "norange":
            start, status = int(self.headers["Range"].split("=")[1].rstrip("-")), 206
        if repo == "more":
            data = data + b"more"
        self.send_response(status)
        self.send_header("ETag", '"storage-has-its-own"')
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        body = data[start:]
        if repo in ("cut", "norange") and times(repo) <= 2:
            body = body[:100000]
        if repo == "slow" or (repo == "drip" and times("drip") == 1):
            self.wfile.write(b"" if start else body[:50000])
            self.wfile.flush()
            time.sleep(20)
            return
        if repo == "twice":
            self.wfile.write(body[:50000])
            self.wfile.flush()
            time.sleep(2)
            body = body[50000:]
            data = data[50000:]
        self.wfile.write(body)
        self.wfile.flush()
        if len(body) < len(data) - start:
            self.close_connection = True
            self.connection.close()


def main():
    hub, storage = (ThreadingHTTPServer(("127.0.0.1", 0), Hub) for _ in range(2))
    Hub.storage = storage.server_port
    threading.Thread(target=storage.serve_forever, daemon=True).start()
    with open(sys.argv[1] + ".new", "w") as f:
        f.write(str(hub.server_port))
    os.rename(sys.argv[1] + ".new", sys.argv[1])
    hub.serve_forever()


main()
