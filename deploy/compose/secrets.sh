#!/bin/sh
# Makes what the stack's parts know each other by, once: certificates of an authority of its own, a key that signs
# models, and passwords. Each service gets a folder with what it needs, and nothing else.
set -eu
cd "${1:-/secrets}"
[ -e client/complete ] && exit 0
mkdir -p bridge client postgres recsvc retrain s3

# What makes it all is nobody's: it goes with this shell.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 \
  -subj '/CN=video-window-compose' -keyout "$work/ca.key" -out "$work/ca.crt"
for name in recsvc bridge client; do
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$name" -keyout "$name/$name.key" \
    -out "$work/csr"
  printf 'subjectAltName=DNS:%s,DNS:localhost,IP:127.0.0.1\n' "$name" > "$work/ext"
  openssl x509 -req -in "$work/csr" -CA "$work/ca.crt" -CAkey "$work/ca.key" -CAcreateserial -days 365 \
    -extfile "$work/ext" -out "$name/$name.crt"
  cp "$work/ca.crt" "$name/ca.crt"
done

openssl genpkey -algorithm ed25519 -out retrain/model-signing.key
openssl pkey -in retrain/model-signing.key -pubout -out recsvc/model-signing.pub

password=$(openssl rand -hex 24)
access=$(openssl rand -hex 10)
secret=$(openssl rand -hex 24)
printf %s "$password" > postgres/postgres-password
for name in bridge retrain; do
  printf %s "postgresql://videowindow:$password@postgres:5432/videowindow" > "$name/database-url"
done
for name in recsvc retrain; do
  printf '[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n' "$access" "$secret" > "$name/aws-credentials"
done
printf '{"identities":[{"name":"video-window","credentials":[{"accessKey":"%s","secretKey":"%s"}],"actions":["Admin","Read","Write","List"]}]}' \
  "$access" "$secret" > s3/s3.json

[ "$(id -u)" != 0 ] || chown 10001:10001 bridge/* client/* recsvc/* retrain/*  # the account of the programs
chmod 0400 bridge/* client/* recsvc/* retrain/*
chmod 0444 ./*/*.crt ./*/*.pub
chmod 0444 postgres/postgres-password s3/s3.json  # their readers run under accounts of their images
touch client/complete
