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
# npm 9, as Debian has it, does not link the program of an optional package; npm scripts find their Node by this link.
if [ ! -x node_modules/.bin/node ]; then
  for node in node_modules/node-linux-*/bin/node; do
    if [ -x "$node" ]; then ln -sf "../${node#node_modules/}" node_modules/.bin/node; fi
  done
fi
# Node 26 needs libatomic, which a small Debian lacks. It is unpacked beside Node, so no root is needed.
if ! node_modules/.bin/node --version >/dev/null 2>&1; then
  echo "setup: fetching the Debian package libatomic1, which Node needs, into node_modules" >&2
  apt=$PWD/node_modules/.apt
  mkdir -p "$apt/lists/partial" "$apt/archives/partial"
  cat >"$apt/apt.conf" <<CONFIG
Dir::State::Lists "$apt/lists"; Dir::Cache "$apt"; APT::Sandbox::User ""; Debug::NoLocking "true";
CONFIG
  (
    cd "$apt"
    export APT_CONFIG="$apt/apt.conf"
    apt-get -qq update >&2
    apt-get -qq download libatomic1 >&2
    dpkg-deb -x libatomic1_*.deb .
  )
  library=$(cd "$apt" && find usr -name libatomic.so.1 | head -n 1)
  node=$(cd node_modules && ls node-linux-*/bin/node)
  rm -f node_modules/.bin/node
  cat >node_modules/.bin/node <<WRAPPER
#!/bin/sh
# Written by scripts/setup.sh: the pinned Node with the library that this system lacks.
modules=\$(dirname "\$(readlink -f "\$0")")/..
export LD_LIBRARY_PATH="\$modules/.apt/$(dirname "$library")\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}"
exec "\$modules/$node" "\$@"
WRAPPER
  chmod +x node_modules/.bin/node
  node_modules/.bin/node --version >/dev/null
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
ip iproute2
mount mount
LIST
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ]; then
  echo "setup: installing Debian packages:$missing" >&2
  apt-get update -qq >&2
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >&2
else
  echo "setup: tests that need these Debian packages will be skipped (to install: sudo apt-get install$missing)" >&2
fi
