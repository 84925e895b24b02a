# shellcheck shell=bash disable=SC2034
# Sourced by the three crash shows: a writer, a random moment, a verdict. Needs lib.sh.

ROUNDS=${ROUNDS:-50} WORKERS=${WORKERS:-2} SEED=${SEED:-1}
VERDICTS=$SCRATCH/verdicts; : >"$VERDICTS"
RANDOM=$SEED # the moments follow from the seed; what the machine was doing then does not

writer_start() { # writer_start ROUND: writes below MOUNT/round-N; returns when the writing begins
  python3 "$ROOT/scripts/show/writer.py" --dir "$MNT/round-$1" --journal "$SCRATCH/journal/$1" \
    --workers "$WORKERS" --pause-ms "${PAUSE_MS:-2}" --seed "$SEED.$1" 2>>"$SCRATCH/writer.log" &
  WRITER=$!
  at_exit end_process "$WRITER" 5
  wait_until 30 test -e "$SCRATCH/journal/$1/worker-$((WORKERS - 1))" || die "round $1: the writer did not start"
}

random_moment() { # random_moment MIN_MS MAX_MS
  local ms=$(($1 + (RANDOM * 32768 + RANDOM) % ($2 - $1)))
  sleep "$(printf '%d.%03d' $((ms / 1000)) $((ms % 1000)))"
}

now_s() { date +%s.%N; }
minus() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.6f", a - b }'; }

# writer_gone ROUND: the mount it wrote to has died under it. Then the dead mount point goes too.
writer_gone() {
  wait_until 5 dead "$WRITER" || kill -TERM "$WRITER"
  wait_until 30 dead "$WRITER" || die "round $1: the writer hangs in a dead mount"
  wait "$WRITER" || { tail "$SCRATCH/writer.log" >&2; die "round $1: the writer broke"; }
  unmount_lazily "$MNT"
}

judge() { # judge ROUND FLAG...: adds a verdict; a failed round is told, and the rounds go on
  local round=$1 verdict; shift
  verdict=$(python3 "$ROOT/scripts/show/verify.py" --dir "$MNT/round-$round" --journal "$SCRATCH/journal/$round" \
    --manifest "$SCRATCH/manifest.$round" "$@") || say "round $round: $verdict"
  [ -n "$verdict" ] || die "round $round: no verdict"
  printf '{"round": %d, "mount_ms": %d, %s\n' "$round" "$MOUNT_MS" "${verdict#\{}" >>"$VERDICTS"
}

# What each round left is still the same when read from the bucket alone, by a machine that has nothing.
same_from_bucket() {
  local n trouble=0
  "$HAVEN" flush "$MNT"
  mount_stop "$MNT"
  rm -rf "$CACHE"
  mount_start "$URL" "$MNT" "$CACHE" "$@"
  for ((n = 1; n <= ROUNDS; n++)); do
    python3 "$ROOT/scripts/show/verify.py" --dir "$MNT/round-$n" --same "$SCRATCH/manifest.$n" >"$SCRATCH/same" ||
      { say "from the bucket, round $n: $(cat "$SCRATCH/same")"; trouble=$((trouble + 1)); }
  done
  mount_stop "$MNT"
  [ "$trouble" = 0 ] || die "$trouble rounds read differently from the bucket"
}
