#!/usr/bin/env bash
# Starts an image as a container engine does, without one: its layer unpacked and read-only, its user, its entry point, a volume for
# its state; between simulators that `<program> simulate` makes.
#
#   tests/release/image.sh <image> <scratch folder> <program>
set -euo pipefail
image=$1 work=$2 program=$3
mkdir "$work/layout" "$work/image" "$work/volume"
tar -xf "$image" -C "$work/layout"
# From the index to the layer by digests, each of which has to be that of its blob.
mapfile -t words < <(python3 - "$work/layout" <<'END'
import hashlib, json, sys
place = sys.argv[1]

def blob(of):
    content = open(f"{place}/blobs/{of['digest'].replace(':', '/')}", "rb").read()
    assert f"sha256:{hashlib.sha256(content).hexdigest()}" == of["digest"] and len(content) == of["size"], of
    return content

[manifest] = json.load(open(f"{place}/index.json"))["manifests"]
manifest = json.loads(blob(manifest))
config = json.loads(blob(manifest["config"]))["config"]
[layer] = manifest["layers"]
blob(layer)
print(f"{place}/blobs/{layer['digest'].replace(':', '/')}", config["User"], config["WorkingDir"], sep="\n")
print(*config["Entrypoint"], *config["Cmd"], sep="\n")
END
)
layer=${words[0]} user=${words[1]} folder=${words[2]} command=("${words[@]:3}")
[[ $user != 0:* && $user != root* ]] || { echo "it would run as $user"; exit 1; }
tar -xzpf "$layer" -C "$work/image"
chown "$user" "$work/volume"
certificates=$(grep -c BEGIN "$work/image/etc/ssl/certs/ca-certificates.crt")
((certificates > 100)) || { echo "only $certificates roots of certificates"; exit 1; }
# What an engine lays over every image. The name is looked up by the image's own glibc.
printf '127.0.0.1 localhost\n' >"$work/image/etc/hosts"

# In a mount namespace of its own.
export root=$work/image volume=$work/volume folder user
cat >"$work/contain" <<'END'
set -euo pipefail
mount --bind "$root" "$root"
mount --bind "$volume" "$root$folder"
mount -o remount,bind,ro "$root"
if touch "$root/tmp/written" 2>/dev/null; then echo 'the root is not read-only'; exit 1; fi
cd "$root$folder"
exec chroot --userspec="$user" "$root" /usr/bin/mimecast-devo "$@"
END
export -n root volume
contained() { root=$work/image volume=$work/volume unshare --mount bash "$work/contain" "$@"; }
[[ ${command[0]} == /usr/bin/mimecast-devo && ${command[1]} == collect ]] || { echo "it starts ${command[*]}"; exit 1; }
contained --version
export -f contained
export work
"$program" simulate --check -- bash -c '
    set -euo pipefail
    export MIMECAST_DEVO_STATE_FILE='"$folder"'/mimecast-devo.db
    export SIMULATED_DEVO_SECRET=${SIMULATED_DEVO_SECRET/127.0.0.1/localhost}
    contained collect --once' >"$work/log" 2>&1 || { cat "$work/log" && exit 1; }
[[ $(stat -c '%u:%g' "$work/volume/mimecast-devo.db") == "$user" ]] || { echo 'the state file is not in the volume'; exit 1; }
