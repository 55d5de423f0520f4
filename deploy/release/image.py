"""Makes the container image, an OCI layout in a tar, without a container engine.

    python3 deploy/release/image.py <program> <architecture> <version> <Debian root> <out>

It holds the program, glibc and the roots of certificates, both as Debian has them, and nothing else: no shell, no package manager. The
program is nobody's in it, and may write to /var/lib/mimecast-devo alone. The same input gives the same bytes.
"""

import gzip
import hashlib
import io
import json
import os
import sys
import tarfile
from datetime import UTC, datetime
from pathlib import Path

NOBODY = 65532
# The triplet of Debian's folders, where the loader has to lie, and the name that images have for it.
MACHINES = {"x86_64": ("x86_64-linux-gnu", "lib64/ld-linux-x86-64.so.2", "amd64"),
            "arm64": ("aarch64-linux-gnu", "lib/ld-linux-aarch64.so.1", "arm64")}
# What the program may be linked with. Look-ups of names need no more since glibc 2.34.
LIBRARIES = ["libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1", "libresolv.so.2"]


class Tar:
    """A tar with fixed dates and owners."""

    def __init__(self):
        self.bytes = io.BytesIO()
        # Names that are longer than the oldest form allows would otherwise come with the time of this moment.
        self.tar = tarfile.open(fileobj=self.bytes, mode="w", format=tarfile.USTAR_FORMAT)

    def add(self, name, content=None, mode=0o644, owner=0):
        """A file, or a folder if there is no content."""
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode = (tarfile.DIRTYPE, mode) if content is None else (tarfile.REGTYPE, mode)
        entry.uid = entry.gid = owner
        entry.size = len(content or b"")
        self.tar.addfile(entry, io.BytesIO(content or b""))

    def done(self):
        self.tar.close()
        return self.bytes.getvalue()


def layer(program, machine, root):
    triplet, loader, _ = MACHINES[machine]
    files = {f"lib/{triplet}/{name}": (root / "lib" / triplet / name).read_bytes() for name in LIBRARIES}
    files[loader] = (root / "lib" / triplet / Path(loader).name).read_bytes()
    # Not the bundle of the machine that builds, which may trust others too.
    roots = sorted((root / "usr/share/ca-certificates/mozilla").glob("*.crt"))
    files["etc/ssl/certs/ca-certificates.crt"] = b"".join(of.read_bytes() for of in roots)
    for package in ("libc6", "ca-certificates"):
        files[f"usr/share/doc/{package}/copyright"] = (root / "usr/share/doc" / package / "copyright").read_bytes()
    files["etc/passwd"] = f"root:x:0:0::/:/none\nmimecast-devo:x:{NOBODY}:{NOBODY}::/var/lib/mimecast-devo:/none\n".encode()
    files["etc/group"] = f"root:x:0:\nmimecast-devo:x:{NOBODY}:\n".encode()
    files["usr/bin/mimecast-devo"] = program.read_bytes()
    for name in ("LICENSE", "THIRD-PARTY-LICENSES.txt"):
        files[f"usr/share/doc/mimecast-devo/{name}"] = (program.parent / name).read_bytes()
    tar, folders = Tar(), {"etc/mimecast-devo", "var/lib/mimecast-devo", "tmp"}
    for name in [*files, *folders]:
        folders |= {str(of) for of in Path(name).parents if str(of) != "."}
    for name in sorted(folders):
        mode, owner = {"tmp": (0o1777, 0), "var/lib/mimecast-devo": (0o750, NOBODY)}.get(name, (0o755, 0))
        tar.add(name, mode=mode, owner=owner)
    for name, content in sorted(files.items()):
        tar.add(name, content, 0o755 if ".so" in name or name.startswith("usr/bin/") else 0o644)
    return tar.done()


def main(program, machine, version, root, out):
    created = datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    platform = {"architecture": MACHINES[machine][2], "os": "linux"}
    blobs = {}

    def blob(kind, content):
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        digest = hashlib.sha256(content).hexdigest()
        blobs[digest] = content
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(content)}

    files = layer(Path(program), machine, Path(root))
    config = blob("config.v1+json", platform | {
        "created": created,
        "config": {
            "User": f"{NOBODY}:{NOBODY}", "Entrypoint": ["/usr/bin/mimecast-devo"], "Cmd": ["collect"],
            # The state file lies where the program is started unless STATE_FILE says otherwise.
            "WorkingDir": "/var/lib/mimecast-devo",
            "Volumes": {"/etc/mimecast-devo": {}, "/var/lib/mimecast-devo": {}},
            "Labels": {"org.opencontainers.image.title": "mimecast-devo", "org.opencontainers.image.version": version,
                       "org.opencontainers.image.licenses": "Apache-2.0"}},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(files).hexdigest()}"]},
        "history": [{"created": created, "created_by": "deploy/release/image.py"}]})
    manifest = blob("manifest.v1+json", {
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config,
        "layers": [blob("layer.v1.tar+gzip", gzip.compress(files, 9, mtime=0))]})
    name = {"org.opencontainers.image.ref.name": version, "io.containerd.image.name": f"localhost/mimecast-devo:{version}"}
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
             "manifests": [manifest | {"platform": platform, "annotations": name}]}
    tar = Tar()
    tar.add("oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
    tar.add("index.json", json.dumps(index).encode())
    for folder in ("blobs", "blobs/sha256"):
        tar.add(folder, mode=0o755)
    for digest, content in sorted(blobs.items()):
        tar.add(f"blobs/sha256/{digest}", content)
    Path(out).write_bytes(tar.done())


main(*sys.argv[1:])
