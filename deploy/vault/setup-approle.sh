#!/bin/sh
# Lets Keyhatch log in to Vault (or OpenBao) by AppRole: see --help.
set -eu

usage() {
  cat <<'HELP'
usage: setup-approle.sh [OPTION]...

Sets up an AppRole for Keyhatch in HashiCorp Vault or OpenBao: enables the auth method where it is not, writes the policy, makes or
updates the role, prints its role id on standard output, and writes a response-wrapped secret id to a file of mode 0600.
It can be run again at any time: the role id stays, and each run gives one more secret id.

  --role NAME           the role, and the policy of the same name (keyhatch)
  --policy FILE         the policy's text (keyhatch-policy.hcl beside this script)
  --mount PATH          where the auth method is (approle)
  --out FILE            where the wrapped secret id goes (keyhatch-secret-id, in this directory)
  --cidr A/N[,B/N...]   log-ins and tokens are good from these addresses only (from any)
  --token-ttl TIME      how long a token lives without renewal (20m)
  --token-max-ttl TIME  how long with it; then Keyhatch logs in anew (24h)
  --secret-id-ttl TIME  how long the secret id is good for log-ins, any number of them (2160h: 90 days; 0: for ever).
                        Run this again before that, hand Keyhatch the new file, and restart it
  --wrap-ttl TIME       the time in which Keyhatch must be started with the file (1h)
  -h, --help            this

Environment: VAULT is the command to use (vault): VAULT=bao for OpenBao. It finds the server and your token as it always does
(VAULT_ADDR, VAULT_TOKEN; for bao BAO_ADDR, BAO_TOKEN). Your token must be allowed to write policies and auth methods.
HELP
}

fail() {
  printf 'setup-approle.sh: %s\n' "$1" >&2
  exit "${2:-1}"
}

say() { printf '%s\n' "$1" >&2; }

# A name that stands in an API path as it is.
check_name() {
  case $2 in
    '' | *[!A-Za-z0-9_.-]* | .*) fail "$1 \"$2\": letters, digits, '_', '-' and '.' are allowed" 2 ;;
  esac
}

role=keyhatch
policy=$(dirname -- "$0")/keyhatch-policy.hcl
mount=approle
out=keyhatch-secret-id
cidr=
token_ttl=20m
token_max_ttl=24h
secret_id_ttl=2160h
wrap_ttl=1h
while [ $# -gt 0 ]; do
  option=$1
  case $option in
    -h | --help)
      usage
      exit 0
      ;;
    --role | --policy | --mount | --out | --cidr | --token-ttl | --token-max-ttl | --secret-id-ttl | --wrap-ttl)
      [ $# -ge 2 ] || fail "$option needs a value; see --help" 2
      ;;
    *) fail "unknown argument \"$option\"; see --help" 2 ;;
  esac
  case $option in
    --role) role=$2 ;;
    --policy) policy=$2 ;;
    --mount) mount=${2%/} ;;
    --out) out=$2 ;;
    --cidr) cidr=$2 ;;
    --token-ttl) token_ttl=$2 ;;
    --token-max-ttl) token_max_ttl=$2 ;;
    --secret-id-ttl) secret_id_ttl=$2 ;;
    --wrap-ttl) wrap_ttl=$2 ;;
  esac
  shift 2
done

check_name "--role" "$role"
check_name "--mount" "$mount"
[ -r "$policy" ] || fail "--policy $policy: there is no such file, or it may not be read" 2
[ ! -d "$out" ] || fail "--out $out: it is a directory; name a file" 2
vault=${VAULT:-vault}
command -v "$vault" >/dev/null 2>&1 || fail "there is no command \"$vault\"; install Vault, or set VAULT=bao for OpenBao"

# In a variable first: a pipe would hide its failure.
methods=$("$vault" auth list) || fail "\"$vault auth list\" failed: check the server's address, and that your token may do this"
kind=$(printf '%s\n' "$methods" | awk -v path="$mount/" '$1 == path { print $2 }')
case $kind in
  approle) say "auth method $mount/: there already" ;;
  '')
    "$vault" auth enable -path="$mount" approle >/dev/null
    say "auth method $mount/: enabled"
    ;;
  *) fail "$mount/ is an auth method of type \"$kind\"; choose another with --mount" ;;
esac

"$vault" policy write "$role" "$policy" >/dev/null
say "policy $role: written from $policy"

# Every setting is written each time, so that a run without --cidr takes the bounds of an earlier one away. Service tokens, since
# batch tokens cannot be renewed; no policy `default`, since ours says all that is needed.
"$vault" write "auth/$mount/role/$role" \
  token_policies="$role" token_no_default_policy=true token_type=service \
  token_ttl="$token_ttl" token_max_ttl="$token_max_ttl" token_num_uses=0 token_bound_cidrs="$cidr" \
  bind_secret_id=true secret_id_num_uses=0 secret_id_ttl="$secret_id_ttl" secret_id_bound_cidrs="$cidr" >/dev/null
say "role $role: written (token $token_ttl, at most $token_max_ttl; secret id $secret_id_ttl; from ${cidr:-any address})"

role_id=$("$vault" read -field=role_id "auth/$mount/role/$role/role-id")

# The file is whole or not there, and nobody else's at any moment.
umask 077
new=$(mktemp "$out.XXXXXX")
trap 'rm -f -- "$new"' EXIT
trap 'exit 1' HUP INT TERM
"$vault" write -f -wrap-ttl="$wrap_ttl" -field=wrapping_token "auth/$mount/role/$role/secret-id" >"$new"
[ -s "$new" ] || fail "\"$vault\" gave no wrapping token"
mv -f -- "$new" "$out"
say "wrapped secret id: in $out, to be unwrapped once, within $wrap_ttl"

printf '%s\n' "$role_id"
