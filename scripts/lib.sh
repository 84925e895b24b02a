# shellcheck shell=bash disable=SC2034
# Sourced by everything in scripts/: where the binary is, a scratch directory that always goes away,
# mounts that are started, waited for, killed and taken down. Needs bash, and root only where a caller says so.
#
# What a script may rely on after `. lib.sh`:
#   ROOT      the repository                  HAVEN     the binary (target/release/haven, or as given)
#   SCRATCH   a fresh directory, removed at exit; passphrase and recovery key of the libraries made here lie in it
# Everything started through these functions is ended at exit, by process id, whatever happened in between.
# KEEP=1 keeps SCRATCH, for looking at logs afterwards.

set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
LIB=$ROOT/scripts/lib

say() { printf '%s\n' "$*" >&2; }
die() { say "FAILED: $*"; exit 1; }

# Undo actions, run last first.
AT_EXIT=()
at_exit() { AT_EXIT+=("$(printf '%q ' "$@")"); }
cleanup() {
  local status=$? i
  trap - EXIT
  trap '' INT TERM HUP
  set +e
  for ((i = ${#AT_EXIT[@]} - 1; i >= 0; i--)); do eval "${AT_EXIT[i]}" >/dev/null 2>&1; done
  exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

SCRATCH=$(mktemp -d "${TMPDIR:-/tmp}/haven.XXXXXX")
chmod 755 "$SCRATCH" # other users must be able to walk through it to the mount
if [ -n "${KEEP:-}" ]; then say "keeping $SCRATCH"; else at_exit rm -rf --one-file-system "$SCRATCH"; fi

# The passphrase file of every library these scripts make. Exported: the binary reads it from here.
umask 077; head -c 24 /dev/urandom | base64 >"$SCRATCH/passphrase"; umask 022
export HAVEN_PASSPHRASE_FILE=$SCRATCH/passphrase

# debian_mirror: where this machine's packages come from, or Debian's own.
debian_mirror() {
  local found
  found=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
    sed -nE 's/^deb( \[[^]]*\])? (http[^ ]+).*/\2/p; s/^URIs: (http[^ ]+).*/\1/p' | head -n 1) || true
  echo "${found:-http://deb.debian.org/debian}"
}

need_root() { [ "$(id -u)" = 0 ] || die "$(basename "$0") must run as root ($1)"; }
need() { local tool; for tool; do command -v "$tool" >/dev/null || die "$tool is missing; scripts/test says what installs it"; done; }

# Sets HAVEN. There is no stand-in: without a binary nothing is shown.
need_haven() {
  HAVEN=${HAVEN:-${CARGO_TARGET_DIR:-$ROOT/target}/release/haven}
  [ -x "$HAVEN" ] || die "no haven at $HAVEN: build it with 'cargo build --release -p haven', or set HAVEN"
  [ -c /dev/fuse ] || die "no /dev/fuse: the fuse module is not loaded, or this container may not use it"
  export HAVEN
}

now_ms() { date +%s%3N; }
alive() { kill -0 "$1" 2>/dev/null; }
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# wait_until SECONDS COMMAND...: polls every 20 ms; 1 when the time is over.
wait_until() {
  local deadline=$(($(now_ms) + $1 * 1000)); shift
  until "$@" 2>/dev/null; do
    [ "$(now_ms)" -lt "$deadline" ] || return 1
    sleep 0.02
  done
}

# end_process PID [SECONDS]: TERM, then KILL when it does not go.
end_process() {
  alive "$1" || return 0
  kill -TERM "$1" 2>/dev/null || true
  wait_until "${2:-10}" dead "$1" || kill -KILL "$1" 2>/dev/null || true
  wait "$1" 2>/dev/null || true
}
dead() { ! alive "$1" || [ "$(awk '{print $3}' "/proc/$1/stat" 2>/dev/null)" = Z ]; }

# ---------------------------------------------------------------- libraries and mounts

# new_library URL: makes a library; its recovery key is written beside the passphrase.
new_library() {
  rm -f "$SCRATCH/recovery-key"
  "$HAVEN" init "$1" --recovery-key-file "$SCRATCH/recovery-key" >"$SCRATCH/init.log" 2>&1 ||
    { cat "$SCRATCH/init.log" >&2; die "haven init $1"; }
}

# The process behind each mount point, and its log.
declare -A MOUNT_PID MOUNT_LOG
# By the kernel's list and not by looking at it: a dead mount point answers nothing.
mounted() { grep -qF " $1 " /proc/self/mountinfo; }
serves() { mounted "$1" && ls "$1" >/dev/null 2>&1; }
serves_or_died() { serves "$1" || dead "${MOUNT_PID[$1]}"; }

# mount_start URL MOUNTPOINT CACHE [FLAG...]: mounts and waits until the first `ls` answers.
# Sets MOUNT_MS, the milliseconds that took from the start of the process. MOUNT_WAIT_S bounds it (60).
mount_start() {
  local url=$1 point=$2 cache=$3 started; shift 3
  mkdir -p "$point" "$cache"
  MOUNT_LOG[$point]=$SCRATCH/$(basename "$point").log
  started=$(now_ms)
  "$HAVEN" mount "$url" "$point" --cache "$cache" --foreground "$@" >>"${MOUNT_LOG[$point]}" 2>&1 &
  MOUNT_PID[$point]=$!
  at_exit mount_down "$point"
  if ! wait_until "${MOUNT_WAIT_S:-60}" serves_or_died "$point" || ! serves "$point"; then
    tail -n 20 "${MOUNT_LOG[$point]}" >&2
    die "haven mount $url: no mount at $point after $(($(now_ms) - started)) ms"
  fi
  MOUNT_MS=$(($(now_ms) - started))
}

# mount_stop MOUNTPOINT [FLAG...]: unmounts by command; fails when the command does, or the process stays.
mount_stop() {
  local point=$1 pid=${MOUNT_PID[$1]}; shift
  "$HAVEN" umount "$point" "$@" >>"${MOUNT_LOG[$point]}" 2>&1 ||
    { tail -n 20 "${MOUNT_LOG[$point]}" >&2; die "haven umount $point"; }
  wait_until 20 dead "$pid" || die "haven umount $point returned, and process $pid is still there"
  wait "$pid" || die "the mount at $point ended with exit code $?"
  ! mounted "$point" || die "haven umount $point returned, and it is still mounted"
}

# mount_kill MOUNTPOINT: SIGKILL. The dead mount point stays, so that nobody writes below it by mistake.
mount_kill() {
  kill -KILL "${MOUNT_PID[$1]}" 2>/dev/null || true
  wait "${MOUNT_PID[$1]}" 2>/dev/null || true
}
unmount_lazily() { while mounted "$1"; do umount -l "$1" 2>/dev/null || fusermount3 -uz "$1" || break; done; }

# The way out at the end of a script: no promise is asked of it, only that nothing stays behind.
mount_down() {
  local pid=${MOUNT_PID[$1]:-}
  unmount_lazily "$1"
  if [ -n "$pid" ]; then end_process "$pid" 5; fi
}

# status_get MOUNTPOINT KEY: one value of `haven status --json`, wherever in it the key stands.
status_get() {
  "$HAVEN" status "$1" --json | python3 -c '
import json, sys
def find(value):
    if isinstance(value, dict):
        if sys.argv[1] in value:
            yield value[sys.argv[1]]
        for inner in value.values():
            yield from find(inner)
for value in find(json.load(sys.stdin)):
    print(json.dumps(value) if isinstance(value, (dict, list, bool)) or value is None else value)
    break
else:
    sys.exit(f"haven status --json has no {sys.argv[1]}")' "$2"
}

# ---------------------------------------------------------------- stores

# use_dir_store NAME: sets URL to a fresh directory store, and BUCKET_DIR.
use_dir_store() { BUCKET_DIR=$SCRATCH/$1; URL=file://$BUCKET_DIR; mkdir -p "$BUCKET_DIR"; }

# use_server garage|ceph BUCKET: starts one of scripts/servers/, exports the environment it prints for S3 clients,
# sets URL (an s3:// one) and DIRECT_ENDPOINT.
use_server() {
  local kind=$1 bucket=$2 told
  at_exit "$ROOT/scripts/servers/$kind" down "$SCRATCH/$kind"
  told=$("$ROOT/scripts/servers/$kind" up "$SCRATCH/$kind" "$(free_port)" "$bucket") || die "$kind did not start"
  eval "$(grep '^export ' <<<"$told")"
  DIRECT_ENDPOINT=${AWS_ENDPOINT_URL:?$kind printed no endpoint}
  URL=s3://$bucket/library
}

# use_relay [FLAG...]: puts lib/cutproxy.py between us and the server; flags as it takes them (--delay-ms 40).
# `relay COMMAND` then steers it: cut hang, cut reset, heal, delay MS, stats.
use_relay() {
  local port=${DIRECT_ENDPOINT##*:} own; port=${port%%/*}
  own=$(free_port); RELAY=$SCRATCH/relay.$own
  python3 "$LIB/cutproxy.py" serve --listen "$own" --to "127.0.0.1:$port" --control "$RELAY" "$@" 2>>"$SCRATCH/relay.log" &
  RELAY_PID=$!
  at_exit end_process "$RELAY_PID" 2
  wait_until 10 test -S "$RELAY" || die "the relay did not start"
  export AWS_ENDPOINT_URL=http://127.0.0.1:$own
}
relay() { python3 "$LIB/cutproxy.py" ctl "$RELAY" "$@"; }

# ---------------------------------------------------------------- counting

PASSED=0 FAILED=0 SKIPPED=0
# closing_line: the last line every test command prints; exit code 1 when something failed or nothing ran.
closing_line() {
  echo "$PASSED passed, $FAILED failed, $SKIPPED skipped"
  [ "$FAILED" = 0 ] && [ "$PASSED" != 0 ]
}
