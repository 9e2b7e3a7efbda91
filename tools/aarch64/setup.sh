#!/usr/bin/env bash
# Get what it takes to build and test for AArch64 on an x86-64 Debian or Ubuntu, without an ARM machine:
#
#   .aarch64/root   an AArch64 CPython with headers, unpacked from the distribution's own packages
#   .aarch64/site   AArch64 wheels of NumPy and of pyproject.toml's `test` group
#   .aarch64/venv   host Python with the build tools
#   .aarch64/peers  with --peers: AArch64 wheels of the libraries that tools/aarch64/count_peers.py compares with
#
# A second run does nothing. Only a missing compiler or emulator needs root; the AArch64 packages are fetched with
# apt's state and cache in .aarch64, so that this machine's dpkg never hears of a second architecture.
#
# PYTHON=python3.x             the host Python to use, 3.11 or later (default: python3)
# AARCH64_APT_SOURCES=FILE     apt sources that carry arm64, where this machine's own do not (Ubuntu: its ports archive)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

peers=
if [[ ${1:-} == --peers ]]; then peers=1 && shift; fi
(($# == 0)) || { echo "usage: tools/aarch64/setup.sh [--peers]" >&2; exit 2; }

python=${PYTHON:-python3}
dir=$PWD/.aarch64

die() { printf 'setup.sh: %s\n' "$*" >&2; exit 1; }
say() { printf 'aarch64: %s\n' "$*"; }

# --- the host's tools ---------------------------------------------------------------------------------------------
missing=()
command -v aarch64-linux-gnu-g++ >/dev/null || missing+=(g++-aarch64-linux-gnu)
command -v qemu-aarch64 >/dev/null || missing+=(qemu-user)
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

# --- an AArch64 Python --------------------------------------------------------------------------------------------
want=$(stamp tools/aarch64/setup.sh)
if ! fresh "$dir/root.stamp" "$want"; then
  for tool in apt-get dpkg-deb; do
    command -v "$tool" >/dev/null || die "the AArch64 Python comes as Debian packages, and $tool is not here"
  done
  rm -rf "$dir/root" "$dir/root.stamp" "$dir/site.stamp" "$dir/apt"
  mkdir -p "$dir/root" "$dir/apt"/{state/lists,cache/archives}/partial
  trap 'rm -rf "$dir/apt"' EXIT

  # An empty dpkg status makes apt download the whole chain of dependencies, whatever this release calls them.
  : >"$dir/apt/state/status"
  apt_arm() {
    local cmd=$1
    shift
    "$cmd" -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Acquire::Languages=none \
      -o Dir::State="$dir/apt/state" -o Dir::State::status="$dir/apt/state/status" -o Dir::Cache="$dir/apt/cache" \
      -o APT::Sandbox::User="$(id -un)" \
      ${AARCH64_APT_SOURCES:+-o Dir::Etc::sourcelist="$AARCH64_APT_SOURCES" -o Dir::Etc::sourceparts=-} "$@"
  }
  say "fetching an AArch64 Python"
  apt_arm apt-get update || true # as above
  apt_arm apt-get install -y --download-only --no-install-recommends python3-minimal libpython3-stdlib libstdc++6 \
    >/dev/null || die "apt's sources have no arm64 packages. AARCH64_APT_SOURCES=FILE names sources that do."
  cd "$dir/apt/cache/archives"
  for deb in libpython3.*-stdlib_*.deb; do # one: its name says which Python this release has
    version=${deb#libpython} version=${version%%-*}
  done
  apt_arm apt-get download "libpython$version-dev" >/dev/null
  for deb in *.deb; do dpkg-deb --extract "$deb" "$dir/root"; done
  cd "$OLDPWD"
  # Releases with a merged /usr leave this link to a package that nobody here needs.
  [[ -e $dir/root/lib ]] || ln -s usr/lib "$dir/root/lib"
  # Debian's pyconfig.h only includes the architecture's own, by a path that no cross compiler searches.
  cp "$dir/root/usr/include/aarch64-linux-gnu/python$version/pyconfig.h" "$dir/root/usr/include/python$version/"
  mkdir -p "$dir/root/usr/lib/python3/dist-packages"
  printf '%s\n' "$dir/install" "$dir/site" >"$dir/root/usr/lib/python3/dist-packages/fusedcell-aarch64.pth"
  # A native script in the interpreter's place: argv[0] makes it sys.executable, so that tests can start Python in a
  # subprocess without binfmt. QEMU_CPU passes through the environment.
  cat >"$dir/root/usr/bin/python" <<WRAPPER
#!/bin/sh
here=\$(cd "\$(dirname "\$0")" && pwd)
exec qemu-aarch64 -L "\${here%/usr/bin}" -0 "\$here/python" "\$here/python$version" "\$@"
WRAPPER
  chmod +x "$dir/root/usr/bin/python"
  ln -sf python "$dir/root/usr/bin/python3"
  echo "$version" >"$dir/python-version"
  rm -rf "$dir/apt"
  echo "$want" >"$dir/root.stamp"
fi
version=$(<"$dir/python-version")

# --- wheels for it, and the build tools ---------------------------------------------------------------------------
want=$(stamp tools/aarch64/setup.sh pyproject.toml)
pip() { "$dir/venv/bin/python" -m pip --quiet --disable-pip-version-check "$@"; }
pip_arm() { # folder, what to install...
  # pip does not let a newer manylinux tag imply the older ones. No pyc files: the host's Python would compile them.
  local tag platforms=() target=$1
  shift
  for tag in manylinux_2_{35,34,31,28,27,26,17}_aarch64 manylinux2014_aarch64; do platforms+=(--platform "$tag"); done
  pip install --target "$target" --no-compile --only-binary=:all: --implementation cp --python-version "$version" \
    "${platforms[@]}" "$@"
}
if ! fresh "$dir/site.stamp" "$want"; then
  rm -rf "$dir/site" "$dir/site.stamp"
  say "fetching wheels"
  [[ -x $dir/venv/bin/python ]] || "$python" -m venv "$dir/venv"
  pip install --upgrade 'pip>=25.1' # for --group
  readarray -t requires < <("$dir/venv/bin/python" -c '
import tomllib
print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")')
  pip install --upgrade cmake ninja "${requires[@]}"
  pip_arm "$dir/site" numpy --group test
  echo "$want" >"$dir/site.stamp"
fi
if [[ -n $peers ]] && ! fresh "$dir/peers.stamp" "$want"; then
  rm -rf "$dir/peers" "$dir/peers.stamp"
  say "fetching wheels of other libraries"
  # What they need to be imported, apart from NumPy, which is there; all that they ask for would be ten times as much.
  pip_arm "$dir/peers" --no-deps --group peers-aarch64 flatbuffers ml_dtypes protobuf typing_extensions
  echo "$want" >"$dir/peers.stamp"
fi

# --- does it run? -------------------------------------------------------------------------------------------------
PYTHONDONTWRITEBYTECODE=1 "$dir/root/usr/bin/python" -c '
import importlib.util as u, platform, subprocess, sys, sysconfig
assert platform.machine() == "aarch64", platform.machine()
assert subprocess.check_output([sys.executable, "-c", "print(6 * 7)"]) == b"42\n"
assert all(u.find_spec(m) for m in ("numpy", "pytest", "hypothesis"))
suffix = sysconfig.get_config_var("EXT_SUFFIX")
print("aarch64: Python", platform.python_version(), "under QEMU, extensions are *" + suffix)'
