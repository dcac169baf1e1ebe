#!/usr/bin/env bash
# Submits calls with curl, and prints one line for each: callId, status, owner (- while it waits for one).
# Exit status 1 if one was refused.
#
#   ./submit_calls.sh                          # 20 calls to http://127.0.0.1:8080
#   CALLS=5 URL=http://10.0.0.5:8080 ./submit_calls.sh
#
# Variables: CALLS (20), URL (http://127.0.0.1:8080), PREFIX (of the call ids; new each time),
# METADATA (a JSON object, {}), TRIES (5: how often a call is sent while nobody answers),
# MEDIAFLOW_API_TOKEN (when the balancer wants one).
set -uo pipefail

CALLS="${CALLS:-20}"
URL="${URL:-http://127.0.0.1:8080}"
PREFIX="${PREFIX:-call-$$-$RANDOM-}"
METADATA="${METADATA:-}"
TRIES="${TRIES:-5}"

if ! [[ "$CALLS" =~ ^[0-9]+$ && "$TRIES" =~ ^[1-9][0-9]*$ ]]; then
  echo "CALLS = '$CALLS', TRIES = '$TRIES': give numbers" >&2
  exit 2
fi

headers=(-H "Content-Type: application/json")
if [[ -n "${MEDIAFLOW_API_TOKEN:-}" ]]; then
  headers+=(-H "Authorization: Bearer $MEDIAFLOW_API_TOKEN")
fi

# Prints the value of a string in a flat JSON object; nothing where it is null or missing.
field() {
  if [[ "$2" =~ \"$1\":[[:space:]]*\"(([^\"\\]|\\.)*)\" ]]; then
    printf '%s' "${BASH_REMATCH[1]}"
  fi
}

refused=0
for ((i = 1; i <= CALLS; i++)); do
  call_id="$PREFIX$i"
  # The same key with each try: a call whose answer was lost is found again, not made a second time.
  key="$call_id-$RANDOM$RANDOM"
  for ((try = 1; try <= TRIES; try++)); do
    answer=$(curl -sS -m 10 -X POST "${headers[@]}" -H "Idempotency-Key: $key" \
      --data "${METADATA:-{\}}" -w '\n%{http_code}' "$URL/calls/$call_id")
    status="${answer##*$'\n'}"
    [[ "$status" == 000 && $try -lt $TRIES ]] || break
    sleep 1
  done
  body="${answer%$'\n'*}"
  if [[ "$status" == 2?? ]]; then
    owner=$(field owner "$body")
    echo "$call_id $status ${owner:--}"
  else
    refused=$((refused + 1))
    echo "$call_id $status -"
    if [[ "$status" == 000 ]]; then
      echo "nobody answers at $URL: start mediaflow with \`mediaflow up\`, or set URL" >&2
      exit 1
    fi
    field detail "$body" >&2
    echo >&2
  fi
done

[[ $refused -eq 0 ]] || exit 1
