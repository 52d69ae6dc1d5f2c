#!/bin/sh
# Installs what building, testing and the demo need on Debian 12. Does nothing where all is there;
# where it may not install, it says what to ask for. `tools/setup.sh lint` adds the tools of make lint.
packages="build-essential cmake ninja-build pkg-config libjansson-dev libyaml-dev libutf8proc-dev libpcre2-dev
libopenblas-openmp-dev liblapacke-dev libarchive-dev zlib1g-dev libzstd-dev libsnappy-dev
libssl-dev libcurl4-openssl-dev libcairo2-dev libcsv-dev libjpeg62-turbo-dev libpng-dev libcmocka-dev
bats bible-kjv palapeli-data"
[ "$1" = lint ] && packages="$packages clang-format codespell shellcheck python3-venv"
missing=""
for p in $packages; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] ||
        missing="$missing $p"
done
[ -z "$missing" ] && exit 0
sudo=""
if [ "$(id -u)" != 0 ]; then
    if sudo -n true 2>/dev/null; then
        sudo=sudo
    else
        echo "strut needs these Debian packages; please install them, then run make again:" >&2
        echo "    sudo apt-get install$missing" >&2
        exit 1
    fi
fi
echo "installing:$missing" >&2
log=$(mktemp)
apt="$sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300"
# shellcheck disable=SC2086
{ $apt update && $apt install -y --no-install-recommends $missing; } >"$log" 2>&1 || {
    cat "$log" >&2
    echo "installing the packages failed; the log is above" >&2
    exit 1
}
rm -f "$log"
