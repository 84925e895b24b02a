# shellcheck shell=bash
# Sourced: sets NPM, a folder outside the sources with the browser's tests and the programs of their lock file, and CHROMIUM.
need node npm
CHROMIUM=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)}
[ -x "$CHROMIUM" ] || die "no Chromium: apt-get install chromium, or set CHROMIUM"
export CHROMIUM
TARGET=${CARGO_TARGET_DIR:-$ROOT/target}
NPM=$TARGET/page-npm; mkdir -p "$NPM"
cp "$LIB"/page/*.mjs "$LIB"/page/*.json "$NPM/"
cmp -s "$NPM/package-lock.json" "$NPM/.installed" || {
  (cd "$NPM" && npm ci --no-audit --no-fund --ignore-scripts --loglevel=error >&2) && cp "$NPM/package-lock.json" "$NPM/.installed"
}
