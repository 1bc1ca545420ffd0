# shellcheck shell=bash
# What the scripts share: messages, phases, and installing what is missing. Sourced, not run.
#
# Everything here can be repeated: what is there is left alone, what cannot be installed is named, with the way to
# get it, before the script ends.
set -euo pipefail

if [ "${BASH_VERSINFO[0]}" -lt 5 ]; then
  echo "error: these scripts need bash 5 or newer; this is bash $BASH_VERSION" >&2
  exit 1
fi

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly ROOT

say() {
  printf '%s\n' "$*"
}

fail() {
  printf 'error: %s\n' "$1" >&2
  shift
  local line
  for line in "$@"; do
    printf '       %s\n' "$line" >&2
  done
  exit 1
}

# --- phases -----------------------------------------------------------------------------------------------------

PHASES=()
PHASE=''

# Runs a command under a header and remembers how long it took.
phase() {
  PHASE=$1
  shift
  local start=$SECONDS
  printf '\n==> %s\n' "$PHASE"
  "$@"
  local took=$((SECONDS - start))
  printf '==> %s: done in %s\n' "$PHASE" "$(duration "$took")"
  PHASES+=("$(printf '%8s  %s' "$(duration "$took")" "$PHASE")")
  PHASE=''
}

duration() {
  if [ "$1" -ge 60 ]; then
    printf '%dm %02ds' $(($1 / 60)) $(($1 % 60))
  else
    printf '%ds' "$1"
  fi
}

# --- Debian packages --------------------------------------------------------------------------------------------

MISSING=()

# need_package PACKAGE [COMMAND…]: the package is wanted unless one of the commands is there, or, without a command
# to look for, unless it is installed.
need_package() {
  local package=$1 command
  shift
  for command in "$@"; do
    if command -v "$command" >/dev/null 2>&1; then
      return
    fi
  done
  if [ $# -eq 0 ]; then
    # Without dpkg there is no telling; what only Debian names is not asked for elsewhere.
    command -v dpkg-query >/dev/null 2>&1 || return 0
    case $(dpkg-query -W -f='${Status}' "$package" 2>/dev/null) in
      *'install ok installed') return ;;
    esac
  fi
  MISSING+=("$package")
}

# Installs what need_package found missing.
install_packages() {
  if [ ${#MISSING[@]} -eq 0 ]; then
    return
  fi
  command -v apt-get >/dev/null 2>&1 || fail "missing on this system: ${MISSING[*]}" \
    "these are Debian's names, and there is no apt-get here: install the like of them, then run this again"
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null 2>&1 || cannot_install "you are not root, and there is no sudo"
    # Asks for the password where somebody can give it.
    if [ -t 0 ]; then sudo -v; else sudo -n true 2>/dev/null; fi || cannot_install "sudo was refused"
    as_root=(sudo)
  fi
  say "installing ${MISSING[*]}"
  local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq
    -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
  "${apt[@]}" update || say "apt-get update failed; going on with the package lists that are there"
  install_quietly || cannot_install "apt-get could not install them"
  MISSING=()
}

# Debian starts a service as soon as its package is installed; the tests want the programs alone. In a subshell, so that
# the policy goes however this ends, and the caller's own trap stays.
install_quietly() (
  policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    trap '"${as_root[@]}" rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" install -m 755 /dev/stdin "$policy" || exit
  fi
  "${apt[@]}" install --yes --no-install-recommends "${MISSING[@]}" </dev/null
)

# What the gateway is built with: a C and C++ compiler, CMake for nng, libsodium for ZeroMQ, the schema compiler and the
# schema of streams.
need_build_packages() {
  need_package build-essential cc
  need_package g++ c++
  need_package cmake cmake
  need_package libsodium-dev
  need_package capnproto capnp
  need_package libcapnp-dev
}

cannot_install() {
  fail "these Debian packages are missing: ${MISSING[*]}" "$1; install them with:" \
    "sudo apt-get update && sudo apt-get install --no-install-recommends ${MISSING[*]}"
}

# --- toolchains -------------------------------------------------------------------------------------------------

# cargo, in the version that Cargo.toml wants.
need_rust() {
  if ! command -v cargo >/dev/null 2>&1 && [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
    PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
  fi
  command -v cargo >/dev/null 2>&1 || fail "Rust is missing (cargo is not on the PATH)" \
    "install it with rustup, see https://rustup.rs"
  # With rustup this installs the pinned toolchain when it is not there yet.
  local version wanted
  version=$(cd "$ROOT" && rustc --version | cut -d' ' -f2) || fail "rustc does not run" \
    "rustup can install the pinned toolchain: rustup toolchain install"
  wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$ROOT/Cargo.toml")
  at_least "$version" "$wanted" || fail "Rust $wanted or newer is needed, this is $version" \
    "with rustup: rustup toolchain install $wanted"
}

# need_component fmt|clippy: a cargo command that comes with the toolchain.
need_component() {
  if (cd "$ROOT" && cargo "$1" --version >/dev/null 2>&1); then
    return
  fi
  command -v rustup >/dev/null 2>&1 || fail "cargo $1 is missing" "install it, or use rustup, see https://rustup.rs"
  # rustup calls `cargo fmt` rustfmt.
  (cd "$ROOT" && rustup component add "${1/#fmt/rustfmt}")
}

need_node() {
  local wanted version
  wanted=$(sed -n 's/.*"node": *">=\([0-9.]*\)".*/\1/p' "$ROOT/apps/web/package.json")
  if ! command -v node >/dev/null 2>&1 || ! command -v npm >/dev/null 2>&1; then
    fail "Node $wanted or newer with npm is missing" "see https://nodejs.org/en/download"
  fi
  version=$(node --version)
  at_least "${version#v}" "$wanted" || fail "Node $wanted or newer is needed, this is $version" \
    "see https://nodejs.org/en/download"
}

# at_least VERSION WANTED
at_least() {
  [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

# The client's packages, exactly as locked.
web_packages() {
  node_packages apps/web
}

# The OpenID provider that the gateway's tests start.
provider_packages() {
  node_packages tests/oidc
}

# node_packages FOLDER: what its lock file says.
node_packages() {
  cd "$ROOT/$1"
  # npm ci would empty what the link leads to, which others use as well.
  if [ -L node_modules ]; then
    say "node_modules is a link, and is left alone"
    return
  fi
  # npm writes this file when it is done.
  if [ node_modules/.package-lock.json -nt package-lock.json ]; then
    say "node_modules is up to date"
  else
    npm ci --no-audit --no-fund
    # A lock that is checked out later than it is installed would be installed every time.
    touch node_modules/.package-lock.json
  fi
}

# Python packages in the repository's own environment.
python_packages() {
  local wanted=$ROOT/tests/protocol/requirements.txt venv=$ROOT/.venv
  if cmp -s "$wanted" "$venv/requirements.txt"; then
    say ".venv is up to date"
    return
  fi
  [ -x "$venv/bin/pip" ] || python3 -m venv --clear "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$wanted"
  cp "$wanted" "$venv/requirements.txt"
}

# Where cargo puts a binary: cargo_binary PROFILE NAME
cargo_binary() {
  local target
  target=$(cd "$ROOT" && cargo metadata --no-deps --format-version 1 |
    sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
  printf '%s/%s/%s\n' "$target" "$1" "$2"
}
