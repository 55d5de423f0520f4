#!/bin/sh
# dpkg says `remove`, rpm says 0 when it goes and 1 when it is replaced.
set -e
case "$1" in remove | 0) [ ! -d /run/systemd/system ] || systemctl disable --now mimecast-devo.service ;; esac
