# shellcheck shell=bash disable=SC2034
# A keeper of a script's own, after `. lib.sh` (and postgres.sh for PG_URL): started, waited for, ended with the script.
#   told_start           stand-ins of those who are told: TOLD (a directory: heard, refused), TOLD_HTTP, TOLD_SMTP
#   keeper_start         haven run; sets KEEPER_PID, KEEPER_LOG, KEEPER_MS (until the first `ls` answers)
#   keeper_stop          SIGTERM; fails when it does not end well
#   keeper_kill          SIGKILL

told_start() {
  TOLD=$SCRATCH/told; mkdir -p "$TOLD"
  echo "a-ping-key-of-22-chars" >"$SCRATCH/ping-key"; chmod 600 "$SCRATCH/ping-key"
  echo "123456:token" >"$SCRATCH/bot-token"; chmod 600 "$SCRATCH/bot-token"
  python3 "$LIB/tellstand.py" --dir "$TOLD" --ping-limit "${PING_LIMIT:-0}" >"$SCRATCH/told.ports" 2>"$SCRATCH/told.log" & TOLD_PID=$!
  at_exit end_process "$TOLD_PID" 2
  wait_until 10 test -s "$SCRATCH/told.ports" || { cat "$SCRATCH/told.log" >&2; die "the stand-ins did not start"; }
  read -r TOLD_HTTP TOLD_SMTP <"$SCRATCH/told.ports"
}
# heard VIA WORDS: how many messages with these words in their title arrived by that way.
heard() { python3 - "$TOLD/heard" "$1" "$2" <<'P'
import json, os, sys
path, via, words = sys.argv[1:]
all = [json.loads(line) for line in open(path)] if os.path.exists(path) else []
print(sum(one["via"] == via and words in one["title"] and not one.get("document") for one in all))
P
}
was_heard() { [ "$(heard "$1" "$2")" -ge "${3:-1}" ]; }

keeper_serves() { serves "$MNT" || dead "$KEEPER_PID"; }
keeper_start() {
  local started
  KEEPER_LOG=$SCRATCH/keeper.log
  mkdir -p "$MNT"
  started=$(now_ms)
  "$HAVEN" run >>"$KEEPER_LOG" 2>&1 & KEEPER_PID=$!
  at_exit keeper_down "$KEEPER_PID"
  wait_until "${MOUNT_WAIT_S:-60}" keeper_serves || true
  serves "$MNT" || { tail -n 30 "$KEEPER_LOG" >&2; die "haven run: no mount at $MNT after $(($(now_ms) - started)) ms"; }
  KEEPER_MS=$(($(now_ms) - started))
}
keeper_stop() {
  kill -TERM "$KEEPER_PID"
  wait_until "${STOP_WAIT_S:-120}" dead "$KEEPER_PID" || { tail -n 30 "$KEEPER_LOG" >&2; die "haven run does not end"; }
  wait "$KEEPER_PID" || { local code=$?; tail -n 30 "$KEEPER_LOG" >&2; die "haven run ended with exit code $code"; }
  ! mounted "$MNT" || die "haven run ended, and $MNT is still mounted"
}
keeper_kill() { kill -KILL "$KEEPER_PID"; wait "$KEEPER_PID" 2>/dev/null || true; }
keeper_down() { end_process "$1" 10; unmount_lazily "$MNT"; }

PG_URL() { python3 -c 'import sys, urllib.parse; print(f"postgresql://postgres@/{sys.argv[2]}?host={urllib.parse.quote(sys.argv[1], safe=str())}")' "$PG_DIR" "$1"; }
# quiet COMMAND...: what it says is shown only when it fails.
quiet() { "$@" >"$SCRATCH/quiet.log" 2>&1 || { cat "$SCRATCH/quiet.log" >&2; die "$*"; }; }
