#!/bin/sh
# What tests use besides Python, from the packages of Debian or Ubuntu: `make system-packages`. As root, or with sudo.
set -eu
missing=
for program in prometheus systemd-analyze valkey-server wget; do
  command -v "$program" >/dev/null || missing="$missing $program"
done
[ -n "$missing" ] || exit 0

as_root=
[ "$(id -u)" = 0 ] || as_root=sudo
install() { $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"; }

$as_root apt-get update -qq
install prometheus systemd wget
if apt-cache show valkey-server >/dev/null 2>&1; then
  install valkey-server
else  # Debian 12 has it in its backports, which are asked this once and not entered in the system's sources
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  mkdir -p "$scratch/lists/partial" "$scratch/parts"
  for source in /etc/apt/sources.list /etc/apt/sources.list.d/*; do
    [ ! -f "$source" ] || cp "$source" "$scratch/parts"
  done
  archive=$(apt-get indextargets --format "\$(REPO_URI) \$(CODENAME)" "Created-By: Packages" "Origin: Debian" |
    grep -v -- "-[a-z]*$" | sort -u | head -1)
  echo "deb ${archive% *} ${archive#* }-backports main" >"$scratch/parts/backports.list"
  chmod -R a+rX "$scratch"
  set -- -o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$scratch/parts"
  set -- "$@" -o "Dir::State::lists=$scratch/lists"
  $as_root apt-get update -qq "$@"
  install "$@" valkey-server
fi
