#!/usr/bin/env bash
# Requests a second, one response per connection, 16 clients on loopback: each step beside nginx
# and a bare loop of accept, read, write and close. Needs ab and nginx (Debian: apache2-utils,
# nginx-light).
#
#   scripts/bench.sh            medians of five interleaved runs
#   scripts/bench.sh 9          of nine
set -u
cd "$(dirname "$0")/.." || exit 1
rounds=${1:-5}
case $rounds in '' | *[!0-9]* | 0) echo "Usage: scripts/bench.sh [ROUNDS]" >&2; exit 2 ;; esac
for tool in ab nginx; do
  PATH=$PATH:/usr/sbin command -v "$tool" >/dev/null || {
    echo "There is no $tool here. On Debian: apt-get install apache2-utils nginx-light" >&2
    exit 1
  }
done
cargo build --release --quiet --workspace --bins --examples || exit 1
binaries=${CARGO_TARGET_DIR:-target}/release

temporary=$(mktemp -d) || exit 1
trap 'kill $(jobs -p) 2>/dev/null; wait 2>/dev/null; rm -rf "$temporary"' EXIT
trap 'exit 130' INT TERM

# Starts a server that says where it listens, and notes its port.
names=() ports=()
start() { # NAME COMMAND...
  local name=$1
  shift
  "$@" >"$temporary/$name" &
  until grep -q Listening "$temporary/$name"; do sleep 0.05; done
  names+=("$name")
  ports+=("$(sed -n '1s/.*://p' "$temporary/$name")")
}

port=$((20000 + RANDOM % 10000))
cat >"$temporary/nginx.conf" <<CONF
daemon off; worker_processes 1; pid $temporary/pid; error_log $temporary/error.log;
events {}
http {
  access_log off; keepalive_timeout 0;
  server { listen 127.0.0.1:$port; location / { return 200 "Hello, world!\n"; } }
}
CONF
PATH=$PATH:/usr/sbin nginx -e "$temporary/error.log" -c "$temporary/nginx.conf" &
until [ -s "$temporary/pid" ]; do # written once it listens
  kill -0 $! 2>/dev/null || { echo "nginx does not start." >&2; exit 1; }
  sleep 0.05
done
names+=(nginx)
ports+=("$port")
start bare_loop "$binaries/examples/bare_loop"
for folder in steps/*/; do start "$(basename "$folder")" "$binaries/$(basename "$folder")" 127.0.0.1:0; done

for ((round = 0; round < rounds; round++)); do
  for ((index = 0; index < ${#names[@]}; index++)); do
    rate=$(ab -q -n 20000 -c 16 "http://127.0.0.1:${ports[index]}/headers" 2>&1 |
      awk '/^Requests per second/ { print int($4) } /^Failed/ && $3 > 0 { print "failed" }')
    echo "${names[index]} $rate" >>"$temporary/rates"
  done
done
for name in "${names[@]}"; do
  awk -v name="$name" '$1 == name { print $2 }' "$temporary/rates" | sort -n | awk -v name="$name" '
    { rate[NR] = $1 }
    END { printf "%-26s %6d requests a second (%d to %d)\n", name, rate[int((NR + 1) / 2)], rate[1], rate[NR] }'
done
