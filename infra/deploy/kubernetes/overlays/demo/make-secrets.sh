#!/bin/sh
# Make the namespace and its Secrets for the demo, from the files that Compose uses, too. Needs kubectl and openssl.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
secrets=${1:-$here/../../../compose/secrets}
sh "$here/../../../compose/make-secrets.sh" "$secrets"
[ -s "$secrets/page-users" ] || { echo "no $secrets/page-users: see above" >&2; exit 1; }

apply() { kubectl "$@" --dry-run=client -o yaml | kubectl apply -f -; }
kubectl apply -f "$here/../../base/namespace.yaml"
apply -n citybrain create secret generic citybrain \
  --from-file="$secrets/postgres-password" --from-file="$secrets/influxdb-password" \
  --from-file="$secrets/influxdb-token" --from-file="$secrets/page-users"
apply -n citybrain create secret tls page-tls --cert="$secrets/tls.crt" --key="$secrets/tls.key"
