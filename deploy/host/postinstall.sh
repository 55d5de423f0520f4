#!/bin/sh
# Not enabled nor started: there is no configuration yet. An update restarts it only where it runs.
set -e
getent passwd mimecast-devo >/dev/null ||
    useradd --system --user-group --home-dir /var/lib/mimecast-devo --no-create-home --shell /usr/sbin/nologin mimecast-devo
# So that `mimecast-devo check` finds it before the first start; then systemd sees to it.
install -d -m 0750 -o mimecast-devo -g mimecast-devo /var/lib/mimecast-devo
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    systemctl try-restart mimecast-devo.service
fi
