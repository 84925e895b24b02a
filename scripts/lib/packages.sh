# shellcheck shell=bash disable=SC2034
# Sourced: installs Debian packages for missing commands, or says exactly what to install.

# need_packages COMMAND:PACKAGE... (a COMMAND with a slash is a file)
need_packages() {
  local pair packages=() log=${SCRATCH:-/tmp}/apt.log
  for pair; do
    case ${pair%%:*} in
      */*) [ -e "${pair%%:*}" ] ;;
      *) PATH=$PATH:/usr/sbin:/sbin command -v "${pair%%:*}" >/dev/null ;;
    esac || packages+=("${pair#*:}")
  done
  [ ${#packages[@]} -gt 0 ] || return 0
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "install first: sudo apt-get install ${packages[*]}" >&2
    return 1
  fi
  echo "installing: ${packages[*]}" >&2
  export DEBIAN_FRONTEND=noninteractive
  { apt-get -qq update && apt-get -qq install -y --no-install-recommends "${packages[@]}"; } >"$log" 2>&1 ||
    { tail -n 20 "$log" >&2; echo "FAILED: apt-get install ${packages[*]}" >&2; return 1; }
}

need_cargo() {
  export PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
  command -v cargo >/dev/null || { echo "install Rust first (1.92 or newer): https://rustup.rs, or your distribution's package" >&2; return 1; }
}

BUILD_PACKAGES="fusermount3:fuse3 pkg-config:pkg-config cmake:cmake cc:build-essential"
