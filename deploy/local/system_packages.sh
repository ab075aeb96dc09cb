#!/bin/sh
# Sees to the system's packages that cannot come from Python: venv itself, Java and Maven.
# As root it installs what is missing; otherwise it names the line that does, and fails.
# Usage: system_packages.sh PYTHON
set -eu

python="${1:-python3}"
missing=""

"$python" -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || missing="$missing python3 python3-venv"
command -v java >/dev/null 2>&1 || missing="$missing default-jre-headless"
command -v mvn >/dev/null 2>&1 || missing="$missing maven"
command -v setpriv >/dev/null 2>&1 || missing="$missing util-linux"
[ -d /usr/share/zoneinfo/Europe ] || missing="$missing tzdata"
[ -z "$missing" ] && exit 0

line="apt-get install -y --no-install-recommends$missing"
if ! command -v apt-get >/dev/null 2>&1; then
    echo "Missing on this machine:$missing (these are Debian's names for them). Please install them." >&2
    exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "Missing on this machine:$missing. Please install them: sudo $line" >&2
    exit 1
fi
echo "Installing$missing"
export DEBIAN_FRONTEND=noninteractive
timeout 180 apt-get -q -o Acquire::Retries=3 update >/dev/null
# shellcheck disable=SC2086 # one word for each package
timeout 600 apt-get -q -o Acquire::Retries=3 -o DPkg::Lock::Timeout=120 install -y --no-install-recommends $missing >/dev/null
