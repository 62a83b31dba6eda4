#!/usr/bin/env bash
# Runs the tests of the stores on a PostgreSQL that is installed on this machine, such as 15 from Debian's packages:
#   scripts/test-postgres.sh 15 [vitest arguments]
# Makes a cluster of its own in a temporary folder and removes it again.
set -euo pipefail
cd "$(dirname "$0")/.."

version=${1:?usage: test-postgres.sh <major version> [vitest arguments]}
shift
bin=/usr/lib/postgresql/$version/bin
[ -x "$bin/initdb" ] || { echo "PostgreSQL $version is not installed in $bin" >&2; exit 1; }

folder=$(mktemp -d)
as_server() { if [ "$(id -u)" = 0 ]; then su postgres -s /bin/sh -c "$1"; else sh -c "$1"; fi; }
[ "$(id -u)" != 0 ] || chown postgres "$folder"
port=$(node -e 'const s = require("net").createServer().listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close() })')
as_server "$bin/initdb -D $folder/data -U dualstore --auth=trust --encoding=UTF8 --locale=C.UTF-8 >/dev/null"
as_server "$bin/pg_ctl -D $folder/data -w -l $folder/log -o '-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=400' start >/dev/null"
trap 'as_server "$bin/pg_ctl -D $folder/data -m immediate stop >/dev/null"; rm -rf "$folder"' EXIT

export TEST_DATABASE_URL=postgresql://dualstore@127.0.0.1:$port/postgres
npx vitest run "${@:-test/server}"
