#!/bin/sh
# Installs what a command of package.json needs, says what it installs, and does nothing when all is there (so a second
# run needs no network).   usage: sh scripts/setup.sh demo|test
set -eu
cd "$(dirname "$0")/.."

if [ ! -x node_modules/.bin/node ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
  echo "setup: installing the npm packages of package-lock.json (pinned Node included)" >&2
  npm ci --include=optional --loglevel=error >&2
  touch node_modules/.package-lock.json
fi

[ "${1:-demo}" = test ] || exit 0

# Real programs nobody here wrote, as oracles and peers of the tests: command, then the Debian package that has it.
missing=""
while read -r command package; do
  command -v "$command" >/dev/null 2>&1 || [ -x "/usr/sbin/$command" ] || missing="$missing $package"
done <<'LIST'
qemu-riscv64 qemu-user
qemu-system-riscv64 qemu-system-misc
riscv64-unknown-elf-objdump binutils-riscv64-unknown-elf
dtc device-tree-compiler
nbdinfo libnbd-bin
qemu-img qemu-utils
cpio cpio
xz xz-utils
mke2fs e2fsprogs
passt passt
LIST
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ]; then
  echo "setup: installing Debian packages:$missing" >&2
  apt-get update -qq >&2
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >&2
else
  echo "setup: tests that need these Debian packages will be skipped (to install: sudo apt-get install$missing)" >&2
fi
