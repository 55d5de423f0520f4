#!/usr/bin/env bash
# Installs and starts what has been released, each kind on a root of its own: tarball, .deb, .rpm, image. As root, on Debian.
#
#   tests/release/run.sh <folder of the release>
#
# Wants binutils, debootstrap, lintian, rpm and rpmlint. It changes nothing on this machine: all of it happens in a temporary folder,
# and mounts in namespaces that end with their commands.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
release=$(realpath "$1")
step() { printf '%4s   s  %s\n' "$SECONDS" "$*"; }
fail() { echo "the release is not right: $*" >&2 && exit 1; }
case $(uname -m) in aarch64 | arm64) machine=arm64 debian=arm64 rpm=aarch64 ;; *) machine=x86_64 debian=amd64 rpm=x86_64 ;; esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
only() { [[ $# -eq 1 && -e $1 ]] || fail "there should be one file: $*"; echo "$1"; }
tarball=$(only "$release"/mimecast-devo-*-$machine.tar.gz)
deb=$(only "$release"/mimecast-devo_*_$debian.deb)
rpm=$(only "$release"/mimecast-devo-*.$rpm.rpm)
image=$(only "$release"/mimecast-devo-*-$machine.oci.tar)

(cd "$release" && sha256sum --check --quiet SHA256SUMS)
listed=$(wc -l <"$release/SHA256SUMS") there=$(find "$release" -type f ! -name 'SHA256SUMS*' | wc -l)
[[ $listed -eq $there ]] || fail "SHA256SUMS names $listed files of $there"
for zip in "$release"/*-{arm64,x86_64}.zip; do
    [[ -e $zip ]] || continue
    python3 - "$zip" <<'END'
import sys, zipfile
[entry] = zipfile.ZipFile(sys.argv[1]).infolist()
assert entry.filename == "bootstrap" and entry.external_attr >> 16 == 0o100755, entry
END
done
step 'sums and zips'

mkdir "$work/tarball"
tar -xzf "$tarball" -C "$work/tarball" --strip-components 1
program=$work/tarball/mimecast-devo
unzip() { python3 -m zipfile -e "$1" "$2"; }
unzip "$(only "$release"/siem-$machine.zip)" "$work/siem"
for file in "$program" "$work/siem/bootstrap"; do
    newest=$(objdump -T "$file" | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -1)
    [[ $(printf '%s\n' GLIBC_2.17 "$newest" | sort -V | tail -1) == GLIBC_2.17 ]] || fail "$file needs $newest"
    # Two builds would differ, and everyone would see the folders of who built it.
    grep -qaF -e "${here%/tests/*}" -e "${CARGO_HOME:-$HOME/.cargo}/registry" "$file" && fail "$file tells where it was built"
done
"$program" --version
[[ -s $work/tarball/man/mimecast-devo-collect.1 ]] || fail 'no manual page of collect'
bash -n "$work/tarball/completions/mimecast-devo.bash"

# Simulators around one run of `collect`, which has to bring each event to Devo once.
collects() { "$program" simulate --check -- "$@" >"$work/log" 2>&1 || { cat "$work/log" && fail "$* has not collected"; }; }
collects "$program" collect --once --state-file "$work/state.db"
step "tarball: starts, needs $newest, collects"

# The configuration that comes with it, with secrets filled in as its comments say.
configure() {
    (umask 077 && echo '{"client_id": "id", "client_secret": "secret"}' >"$1/etc/mimecast-devo/mimecast.json")
    (umask 077 && echo '{"domain": "domain", "token": "token"}' >"$1/etc/mimecast-devo/devo.json")
}
# In a root with a Debian in it: as delivered, `check` has nothing to say against it.
checks() { chroot "$1" mimecast-devo check --offline || fail "$2: check of the configuration"; }

lintian --fail-on error,warning --allow-root "$deb" 2>/dev/null || fail 'lintian'
root=$work/root
debootstrap --variant=minbase --include=ca-certificates bookworm "$root" >"$work/log" 2>&1 || { cat "$work/log" && fail debootstrap; }
cp "$deb" "$root/tmp/it.deb"
cp -r "$root" "$work/fresh"
in_root() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C DEBIAN_FRONTEND=noninteractive "$@"; }
in_root dpkg --install /tmp/it.deb >"$work/log" 2>&1 || { cat "$work/log" && fail 'dpkg --install'; }
owner=$(in_root stat -c '%U:%G %a' /var/lib/mimecast-devo)
[[ $owner == 'mimecast-devo:mimecast-devo 750' ]] || fail "the state belongs to $owner"
[[ -z $(find "$root/etc/systemd" -name 'mimecast-devo*') ]] || fail 'the service is enabled'
in_root dpkg-query --show -f '${Conffiles}' mimecast-devo | grep -q /etc/mimecast-devo/mimecast-devo.toml || fail 'no conffile'
configure "$root"
checks "$root" deb
# There is no systemd in this root: the unit is looked at by this machine's, which lacks the program.
unit=$root/lib/systemd/system/mimecast-devo.service
systemd-analyze verify --man=no "$unit" 2>&1 | grep -v 'usr/bin/mimecast-devo is not executable' && fail 'systemd-analyze verify'
# Of 100, the fewer the better.
systemd-analyze security --offline=yes --threshold=20 "$unit" | tail -1
echo '# changed here' >>"$root/etc/mimecast-devo/mimecast-devo.toml"
in_root dpkg --install /tmp/it.deb >/dev/null 2>&1
grep -q 'changed here' "$root/etc/mimecast-devo/mimecast-devo.toml" || fail 'an update has replaced the configuration'
in_root dpkg --remove mimecast-devo >/dev/null 2>&1
[[ -d $root/var/lib/mimecast-devo && ! -e $root/usr/bin/mimecast-devo ]] || fail 'dpkg --remove leaves the wrong things'
in_root dpkg --purge mimecast-devo >/dev/null 2>&1
[[ ! -e $root/var/lib/mimecast-devo ]] || fail 'dpkg --purge leaves the state'
step 'deb: lintian has nothing against it; installed, checked, updated, removed, purged'

rpm --checksig "$rpm" >/dev/null
rpmlint --config "$here/rpmlint.toml" "$rpm" >"$work/log" 2>&1 || { cat "$work/log" && fail rpmlint; }
grep -q ' 0 errors, 0 warnings' "$work/log" || { cat "$work/log" && fail rpmlint; }
# A Debian stands in for the Fedora that cannot be had everywhere: it has what the scripts call, but not rpm's names for it.
root=$work/fresh
in_rpm() { rpm --root "$root" --nodeps "$@"; }
in_rpm --install "$rpm"
[[ $(chroot "$root" stat -c %U /var/lib/mimecast-devo) == mimecast-devo ]] || fail 'rpm: no user'
[[ $(rpm --root "$root" -q --configfiles mimecast-devo) == /etc/mimecast-devo/mimecast-devo.toml ]] || fail 'rpm: no config file'
configure "$root"
checks "$root" rpm
in_rpm --erase mimecast-devo
[[ -d $root/var/lib/mimecast-devo && ! -e $root/usr/bin/mimecast-devo ]] || fail 'rpm --erase leaves the wrong things'
step 'rpm: digests and rpmlint in order; installed, checked, erased'

"$here/image.sh" "$image" "$work" "$program" || fail "the image"
step 'image: started as its user, its root read-only'
