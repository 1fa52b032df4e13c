#!/bin/sh
# Make what is secret, once: passwords, InfluxDB's token, a certificate for localhost. Existing files are kept.
# Usage: sh make-secrets.sh [FOLDER]   (default: secrets beside this file)
set -eu
folder=${1:-$(dirname "$0")/secrets}
umask 077
mkdir -p "$folder"
cd "$folder"

made() { # made NAME: write standard input to NAME, unless it is there. Containers read it as another user, hence 0444
  if [ -s "$1" ]; then cat >/dev/null; else cat >"$1.new" && chmod 0444 "$1.new" && mv "$1.new" "$1" && echo "made $folder/$1"; fi
}
random() { od -An -N 24 -tx1 /dev/urandom | tr -d ' \n'; }

random | made postgres-password
random | made influxdb-password
random | made influxdb-token
random | made grafana-password
if [ ! -s tls.crt ]; then
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 -keyout tls.key -out tls.crt \
    -subj /CN=localhost -addext "subjectAltName=DNS:localhost,IP:127.0.0.1" 2>/dev/null
  chmod 0444 tls.key tls.crt
  echo "made $folder/tls.crt for localhost; put a certificate of your authority in its place"
fi
if [ ! -s page-users ]; then
  cat <<END
Now say who may see the page: "name hash", one a line, in $folder/page-users. A password's hash comes from
  docker run --rm -it docker.io/library/caddy:2.10.2-alpine caddy hash-password
END
fi
