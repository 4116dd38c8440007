#!/bin/sh
# Builds an initial RAM file system: the loader in front, then files of any kind at the paths they are to have.
#
#   build.sh ARCHIVE LOADER [FILE=PATH]...
#
# The archive (cpio newc, gzip) has the loader as /loader and nothing that is not named: no /proc, no /dev.
set -eu
archive=$1
loader=$2
shift 2
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

cp "$loader" "$root/loader"
chmod 755 "$root/loader"
for item in "$@"; do
    to=$root/${item#*=}
    mkdir -p "$(dirname "$to")"
    cp -L "${item%%=*}" "$to"
done
(
    cd "$root"
    { echo loader; find . -mindepth 1 ! -path ./loader | sed 's,^\./,,' | LC_ALL=C sort; } |
        cpio --quiet -o -H newc -R 0:0 --reproducible
) | gzip -1 >"$archive"
