#!/usr/bin/env bash
# The tests of the plugin in the QGIS of the next Debian, in a folder of its own: next.sh FOLDER PYTHON [PYTEST ARGUMENTS]
# Needs root: debootstrap, bind mounts and chroot. The worker stays this machine's PYTHON.
set -euo pipefail
root=$1 python=$2
shift 2
repository=$(cd "$(dirname "$0")/../.." && pwd)

if [ ! -e "$root/usr/bin/qgis_process" ]; then
  command -v debootstrap >/dev/null || { apt-get update -q && apt-get install -q -y --no-install-recommends debootstrap; }
  mirror=$(awk '/^URIs:/ {print $2; exit}' /etc/apt/sources.list.d/debian.sources 2>/dev/null || true)
  debootstrap --variant=minbase trixie "$root" "${mirror:-http://deb.debian.org/debian}"
  cp /etc/resolv.conf "$root/etc/resolv.conf"
  cp -r /etc/apt/apt.conf.d/. "$root/etc/apt/apt.conf.d/" 2>/dev/null || true
fi

mounted=()
finish() { for place in "${mounted[@]}"; do umount -l "$place" || true; done; }
trap finish EXIT
bind() {  # what the worker and the tests need, at the same place inside
  [ -d "$1" ] || return 0
  mkdir -p "$root$1"
  mountpoint -q "$root$1" || {
    mount --rbind "$1" "$root$1"
    mount --make-rslave "$root$1"  # or taking it away would take the original away too
    mounted=("$root$1" "${mounted[@]}")
  }
}
for place in /proc /dev /sys /tmp "$repository" "$("$python" -c 'import sys; print(sys.prefix)')" \
             "$("$python" -c 'import sys; print(sys.base_prefix)')"; do
  case $place in /usr) ;; *) bind "$place" ;; esac
done
if [ ! -e "$root/usr/bin/qgis_process" ]; then
  chroot "$root" env PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive \
    apt-get install -q -y --no-install-recommends qgis python3-qgis python3-gdal
fi

wrappers=$(mktemp -d)
for name in qgis_process python3; do
  cat > "$wrappers/$name.inside" <<END
#!/bin/bash
export PATH=/usr/bin:/bin:\$PATH
exec chroot "$root" /bin/bash -c 'cd "\$0" && exec /usr/bin/$name "\$@"' "\$PWD" "\$@"
END
  chmod +x "$wrappers/$name.inside"
done
"$wrappers/qgis_process.inside" --version
QGIS_PROCESS="$wrappers/qgis_process.inside" QGIS_PYTHON="$wrappers/python3.inside" \
  "$python" -m pytest -q -m "not environment" "$repository/tests/plugin" "$@"
