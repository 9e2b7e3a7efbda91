# What the setups for emulated CPUs share, to be sourced from the repository's root:
#
#   .NAME/root   the CPU's own CPython with headers, unpacked from the distribution's packages
#   .NAME/venv   host Python with the build tools
#
# The packages are fetched with apt's state and cache in .NAME, so that this machine's dpkg never hears of a second
# architecture. Only a missing compiler or emulator needs root.
#
#   name=NAME             of the CPU; also what `say` begins with
#   architecture=ARM      as Debian calls it
#   triple=TRIPLE         as compilers do
#   qemu=PROGRAM
#   sources=FILE          apt sources that carry the architecture, if not this machine's own
#   sources_variable=VAR  in which the user gives them

python=${PYTHON:-python3}
dir=$PWD/.$name

die() { printf 'setup.sh: %s\n' "$*" >&2; exit 1; }
say() { printf '%s: %s\n' "$name" "$*"; }
stamp() { (pwd && cat "$@") | sha256sum; } # the paths are written into what is unpacked
fresh() { [[ -f $1 && $(<"$1") == "$2" ]]; }
pip() { "$dir/venv/bin/python" -m pip --quiet --disable-pip-version-check "$@"; }

install_host_tools() {
  local missing=()
  command -v "$triple-g++" >/dev/null || missing+=("g++-$triple")
  command -v "$qemu" >/dev/null || missing+=(qemu-user)
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
}

apt_there() { # apt-get or so, with an architecture and a state of its own
  local command=$1
  shift
  "$command" -qq -o APT::Architecture="$architecture" -o APT::Architectures="$architecture" \
    -o Acquire::Languages=none -o Dir::State="$dir/apt/state" -o Dir::State::status="$dir/apt/state/status" \
    -o Dir::Cache="$dir/apt/cache" -o APT::Sandbox::User="$(id -un)" \
    ${sources:+-o Dir::Etc::sourcelist="$sources" -o Dir::Etc::sourceparts=-} "$@"
}

# Unpacks .NAME/root, with more packages if they are given, and sets version.
unpack_python() {
  local want tool deb
  want=$(stamp tools/emulated/setup.sh "tools/$name/setup.sh")
  if ! fresh "$dir/root.stamp" "$want"; then
    for tool in apt-get dpkg-deb; do
      command -v "$tool" >/dev/null || die "Python for $name comes as Debian packages, and $tool is not here"
    done
    rm -rf "$dir/root" "$dir/root.stamp" "$dir/site.stamp" "$dir/apt"
    mkdir -p "$dir/root" "$dir/apt"/{state/lists,cache/archives}/partial
    trap 'rm -rf "$dir/apt"' EXIT

    # An empty dpkg status makes apt download the whole chain of dependencies, whatever this release calls them.
    : >"$dir/apt/state/status"
    say "fetching Python"
    apt_there apt-get update || true # as above
    apt_there apt-get install -y --download-only --no-install-recommends \
      python3-minimal libpython3-stdlib libstdc++6 "$@" >/dev/null ||
      die "apt's sources have no $architecture packages. $sources_variable=FILE names sources that do."
    cd "$dir/apt/cache/archives"
    for deb in libpython3.*-stdlib_*.deb; do # one: its name says which Python this release has
      version=${deb#libpython} version=${version%%-*}
    done
    apt_there apt-get download "libpython$version-dev" >/dev/null
    for deb in *.deb; do dpkg-deb --extract "$deb" "$dir/root"; done
    cd "$OLDPWD"
    # Releases with a merged /usr leave this link to a package that nobody here needs.
    [[ -e $dir/root/lib ]] || ln -s usr/lib "$dir/root/lib"
    # Debian's pyconfig.h only includes the architecture's own, by a path that no cross compiler searches.
    cp "$dir/root/usr/include/$triple/python$version/pyconfig.h" "$dir/root/usr/include/python$version/"
    mkdir -p "$dir/root/usr/lib/python3/dist-packages"
    printf '%s\n' "$dir/install" "$dir/site" >"$dir/root/usr/lib/python3/dist-packages/fusedcell-$name.pth"
    # A native script in the interpreter's place: argv[0] makes it sys.executable, so that tests can start Python in a
    # subprocess without binfmt. QEMU_CPU passes through the environment.
    cat >"$dir/root/usr/bin/python" <<WRAPPER
#!/bin/sh
here=\$(cd "\$(dirname "\$0")" && pwd)
exec $qemu -L "\${here%/usr/bin}" -0 "\$here/python" "\$here/python$version" "\$@"
WRAPPER
    chmod +x "$dir/root/usr/bin/python"
    ln -sf python "$dir/root/usr/bin/python3"
    echo "$version" >"$dir/python-version"
    rm -rf "$dir/apt"
    echo "$want" >"$dir/root.stamp"
  fi
  version=$(<"$dir/python-version")
}

install_build_tools() {
  local requires
  [[ -x $dir/venv/bin/python ]] || "$python" -m venv "$dir/venv"
  pip install --upgrade 'pip>=25.1' # for --group
  readarray -t requires < <("$dir/venv/bin/python" -c '
import tomllib
print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")')
  pip install --upgrade cmake ninja "${requires[@]}"
}
