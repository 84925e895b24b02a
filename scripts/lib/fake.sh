# shellcheck shell=bash
# Sourced by what needs a photo server: the fake one (crates/immich-fake), started, asked, ordered, ended.

# Sets FAKE.
need_fake() {
  FAKE=${FAKE:-${CARGO_TARGET_DIR:-$ROOT/target}/release/immich-fake}
  [ -x "$FAKE" ] || die "no immich-fake at $FAKE: build it with 'cargo build --release -p haven-immich-fake', or set FAKE"
}

FAKE_ADMIN_KEY=fake-admin-key-0123456789abcdefghijklmnopqr

# fake_start [FLAG...]: sets FAKE_URL and FAKE_PID.
fake_start() {
  local told=$SCRATCH/fake.$RANDOM
  "$FAKE" "$@" >"$told" 2>"$SCRATCH/fake.log" &
  FAKE_PID=$!
  at_exit end_process "$FAKE_PID" 5
  wait_until 10 test -s "$told" || { cat "$SCRATCH/fake.log" >&2; die "the fake server did not start"; }
  FAKE_URL=$(head -n 1 "$told")
}
fake_stop() { end_process "$FAKE_PID" 5; }
fake_ask() { curl -sf "$FAKE_URL/_fake/$1"; }             # state, violations, counts
fake_order() { curl -sf -d "$1" "$FAKE_URL/_fake/orders" >/dev/null; }
fake_reset() { curl -sf -d '' "$FAKE_URL/_fake/reset" >/dev/null; }

# ---------------------------------------------------------------- imports into it

# Sets HAVEN, as need_haven does, but nothing is mounted here. Writes the key's file.
need_import() {
  HAVEN=${HAVEN:-${CARGO_TARGET_DIR:-$ROOT/target}/release/haven}
  [ -x "$HAVEN" ] || die "no haven at $HAVEN: build it with 'cargo build --release -p haven', or set HAVEN"
  umask 077; printf '%s\n' "$FAKE_ADMIN_KEY" >"$SCRATCH/key"; umask 022
}

# import_command DIR STATE [FLAG...]: sets IMPORT, the command that brings a Takeout into the server.
import_command() {
  local dir=$1 state=$2; shift 2
  IMPORT=("$HAVEN" import google-photos "$dir" --state "$state" --server "$FAKE_URL" --api-key-file "$SCRATCH/key"
    --default-zone UTC "$@")
}
