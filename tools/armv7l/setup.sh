#!/usr/bin/env bash
# Get what it takes to build and test for 32-bit ARM on an x86-64 Debian or Ubuntu, without an ARM machine:
#
#   .armv7l/root   an armhf CPython with headers and NumPy, unpacked from the distribution's own packages: on the package
#                  index NumPy has no wheels for armv7l
#   .armv7l/site   pyproject.toml's `test-core` group, in versions that are pure Python
#   .armv7l/venv   host Python with the build tools
#
# A second run does nothing. Only a missing compiler or emulator needs root; the armhf packages are fetched with apt's
# state and cache in .armv7l, so that this machine's dpkg never hears of a second architecture.
#
# PYTHON=python3.x            the host Python to use, 3.11 or later (default: python3)
# ARMHF_APT_SOURCES=FILE      apt sources that carry armhf, where this machine's own do not (Ubuntu: its ports archive)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
(($# == 0)) || { echo "usage: tools/armv7l/setup.sh" >&2; exit 2; }

python=${PYTHON:-python3}
dir=$PWD/.armv7l

die() { printf 'setup.sh: %s\n' "$*" >&2; exit 1; }
say() { printf 'armv7l: %s\n' "$*"; }

# --- the host's tools ---------------------------------------------------------------------------------------------
missing=()
command -v arm-linux-gnueabihf-g++ >/dev/null || missing+=(g++-arm-linux-gnueabihf)
command -v qemu-arm >/dev/null || missing+=(qemu-user)
"$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
if ((${#missing[@]})); then
  command -v apt-get >/dev/null ||
    die "not installed, and there is no apt-get to install it: ${missing[*]} (Debian's names)"
  ((EUID == 0)) || die "not installed: ${missing[*]}. As root: apt-get install --no-install-recommends ${missing[*]}"
  say "installing ${missing[*]}"
  apt-get update -qq || true # a third-party source may be down; the next line says whether it mattered
  # Not the recommended binfmt package: nothing here needs it, and it would change how this machine runs programs.
  DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  die "$python is $("$python" -V 2>&1), 3.11 or later is needed; PYTHON=... chooses another"

stamp() { (pwd && cat "$@") | sha256sum; } # the paths are written into what is unpacked
fresh() { [[ -f $1 && $(<"$1") == "$2" ]]; }

# --- a 32-bit Python ----------------------------------------------------------------------------------------------
want=$(stamp tools/armv7l/setup.sh)
if ! fresh "$dir/root.stamp" "$want"; then
  for tool in apt-get dpkg-deb; do
    command -v "$tool" >/dev/null || die "the armhf Python comes as Debian packages, and $tool is not here"
  done
  rm -rf "$dir/root" "$dir/root.stamp" "$dir/site.stamp" "$dir/apt"
  mkdir -p "$dir/root" "$dir/apt"/{state/lists,cache/archives}/partial
  trap 'rm -rf "$dir/apt"' EXIT

  # An empty dpkg status makes apt download the whole chain of dependencies, whatever this release calls them.
  : >"$dir/apt/state/status"
  apt_arm() {
    local cmd=$1
    shift
    "$cmd" -qq -o APT::Architecture=armhf -o APT::Architectures=armhf -o Acquire::Languages=none \
      -o Dir::State="$dir/apt/state" -o Dir::State::status="$dir/apt/state/status" -o Dir::Cache="$dir/apt/cache" \
      -o APT::Sandbox::User="$(id -un)" \
      ${ARMHF_APT_SOURCES:+-o Dir::Etc::sourcelist="$ARMHF_APT_SOURCES" -o Dir::Etc::sourceparts=-} "$@"
  }
  say "fetching a 32-bit Python"
  apt_arm apt-get update || true # as above
  apt_arm apt-get install -y --download-only --no-install-recommends \
    python3-minimal libpython3-stdlib libstdc++6 python3-numpy >/dev/null ||
    die "apt's sources have no armhf packages. ARMHF_APT_SOURCES=FILE names sources that do."
  cd "$dir/apt/cache/archives"
  for deb in libpython3.*-stdlib_*.deb; do # one: its name says which Python this release has
    version=${deb#libpython} version=${version%%-*}
  done
  apt_arm apt-get download "libpython$version-dev" >/dev/null
  for deb in *.deb; do dpkg-deb --extract "$deb" "$dir/root"; done
  cd "$OLDPWD"
  # Releases with a merged /usr leave this link to a package that nobody here needs.
  [[ -e $dir/root/lib ]] || ln -s usr/lib "$dir/root/lib"
  # The alternatives that a package's installation would have chosen among; the emulated loader looks in its own folders.
  for library in blas lapack; do
    ln -sf "$library/lib$library.so.3" "$dir/root/usr/lib/arm-linux-gnueabihf/lib$library.so.3"
  done
  # Debian's pyconfig.h only includes the architecture's own, by a path that no cross compiler searches.
  cp "$dir/root/usr/include/arm-linux-gnueabihf/python$version/pyconfig.h" "$dir/root/usr/include/python$version/"
  printf '%s\n' "$dir/install" "$dir/site" >"$dir/root/usr/lib/python3/dist-packages/fusedcell-armv7l.pth"
  # A native script in the interpreter's place: argv[0] makes it sys.executable, so that tests can start Python in a
  # subprocess without binfmt. QEMU_CPU passes through the environment.
  cat >"$dir/root/usr/bin/python" <<WRAPPER
#!/bin/sh
here=\$(cd "\$(dirname "\$0")" && pwd)
exec qemu-arm -L "\${here%/usr/bin}" -0 "\$here/python" "\$here/python$version" "\$@"
WRAPPER
  chmod +x "$dir/root/usr/bin/python"
  ln -sf python "$dir/root/usr/bin/python3"
  echo "$version" >"$dir/python-version"
  rm -rf "$dir/apt"
  echo "$want" >"$dir/root.stamp"
fi
version=$(<"$dir/python-version")

# --- what tests need, and the build tools -------------------------------------------------------------------------
want=$(stamp tools/armv7l/setup.sh pyproject.toml)
pip() { "$dir/venv/bin/python" -m pip --quiet --disable-pip-version-check "$@"; }
if ! fresh "$dir/site.stamp" "$want"; then
  rm -rf "$dir/site" "$dir/site.stamp"
  say "fetching wheels"
  [[ -x $dir/venv/bin/python ]] || "$python" -m venv "$dir/venv"
  pip install --upgrade 'pip>=25.1' # for --group
  readarray -t requires < <("$dir/venv/bin/python" -c '
import tomllib
print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")')
  pip install --upgrade cmake ninja "${requires[@]}"
  # No pyc files: the host's Python would compile them.
  pip install --target "$dir/site" --no-compile --only-binary=:all: --implementation py --python-version "$version" \
    --platform any --group test-core
  echo "$want" >"$dir/site.stamp"
fi

# --- does it run? -------------------------------------------------------------------------------------------------
PYTHONDONTWRITEBYTECODE=1 "$dir/root/usr/bin/python" -c '
import importlib.util as u, platform, struct, subprocess, sys, sysconfig, numpy
assert struct.calcsize("P") == 4
assert subprocess.check_output([sys.executable, "-c", "print(6 * 7)"]) == b"42\n"
assert all(u.find_spec(m) for m in ("pytest", "hypothesis", "sybil"))
suffix = sysconfig.get_config_var("EXT_SUFFIX")
print("armv7l: Python", platform.python_version(), "and NumPy", numpy.__version__, "under QEMU, extensions are *" + suffix)'
