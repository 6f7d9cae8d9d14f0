#!/bin/sh
# Installs what a command of package.json needs, says what it installs, and does nothing when all is there (so a second
# run needs no network).   usage: sh scripts/setup.sh demo|test|bench
set -eu
cd "$(dirname "$0")/.."

# A folder that a work tree shares by a link is its owner's to install: npm would empty it for all of them.
if [ -L node_modules ] && [ -x node_modules/.bin/node ]; then
  :
elif [ ! -x node_modules/.bin/node ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
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

purpose=${1:-demo}
# Tests also run the engine in another Node than the pinned one. It goes into the user's cache, once.
if [ "$purpose" = test ]; then
  node_modules/.bin/node test/support/other-node.ts >/dev/null ||
    echo "setup: no other Node could be had: the tests that compare with it will fail" >&2
fi

# Real programs nobody here wrote, as oracles and peers: who needs it, command, the Debian package that has it.
missing=""
while read -r purposes command package; do
  case ",$purposes," in *",$purpose,"*) ;; *) continue ;; esac
  command -v "$command" >/dev/null 2>&1 || [ -x "/usr/sbin/$command" ] || missing="$missing $package"
done <<'LIST'
test qemu-riscv64 qemu-user
test,bench qemu-system-riscv64 qemu-system-misc
bench riscv64-unknown-elf-gcc gcc-riscv64-unknown-elf
test riscv64-unknown-elf-objdump binutils-riscv64-unknown-elf
test dtc device-tree-compiler
test nbdinfo libnbd-bin
test qemu-img qemu-utils
test openssl openssl
test nbdkit nbdkit
test nbd-server nbd-server
test etcd etcd-server
test etcdctl etcd-client
test cpio cpio
test xz xz-utils
test mke2fs e2fsprogs
test,bench redis-benchmark redis-tools
test curl curl
test ssh openssh-client
test passt passt
test ip iproute2
test ping iputils-ping
test mount mount
LIST
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ]; then
  echo "setup: installing Debian packages:$missing" >&2
  apt-get update -qq >&2
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >&2
else
  echo "setup: what needs these Debian packages will be skipped (to install: sudo apt-get install$missing)" >&2
fi
