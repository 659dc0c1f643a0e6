#!/bin/sh
# Makes what the stack's parts know each other by, once: certificates of an authority of its own, a key that signs
# models, and passwords.
set -eu
cd "${1:-/secrets}"
[ -e complete ] && exit 0

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 \
  -subj '/CN=video-window-compose' -keyout ca.key -out ca.crt
for name in recsvc bridge client; do
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$name" -keyout "$name.key" -out "$name.csr"
  printf 'subjectAltName=DNS:%s,DNS:localhost,IP:127.0.0.1\n' "$name" > "$name.ext"
  openssl x509 -req -in "$name.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 365 -extfile "$name.ext" -out "$name.crt"
  rm "$name.csr" "$name.ext"
done
rm ca.key  # nobody else is to be trusted

openssl genpkey -algorithm ed25519 -out model-signing.key
openssl pkey -in model-signing.key -pubout -out model-signing.pub

password=$(openssl rand -hex 24)
access=$(openssl rand -hex 10)
secret=$(openssl rand -hex 24)
printf %s "$password" > postgres-password
printf %s "postgresql://videowindow:$password@postgres:5432/videowindow" > database-url
printf '[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n' "$access" "$secret" > aws-credentials
printf '{"identities":[{"name":"video-window","credentials":[{"accessKey":"%s","secretKey":"%s"}],"actions":["Admin","Read","Write","List"]}]}' \
  "$access" "$secret" > s3.json

[ "$(id -u)" != 0 ] || chown 10001:10001 ./*  # the account of the programs
chmod 0444 ./*.crt ./*.pub
chmod 0400 ./*.key database-url aws-credentials
chmod 0444 postgres-password s3.json  # their readers run under accounts of their images
touch complete
