# What Keyhatch may do in Vault (or OpenBao) for credentials that are named one by one:
#
#   keyhatch credential add openrouter --vault secret/openrouter#api_key
#
# One pair of lines for each entry, and nothing else. Whoever holds this policy's token reads these values, so give it to Keyhatch alone.
# Lines that begin with `#path` are variants: take the `#` away where the comment above them holds.

# The value.
path "secret/data/openrouter" {
  capabilities = ["read"]
}

# Its version: asked for every `refresh`, so that the value itself travels only when it has changed.
# A reference with `?version=N` does without.
path "secret/metadata/openrouter" {
  capabilities = ["read"]
}

# Its own token: how long it lives, renewing it, and revoking it at the end of the process.
# These come with the policy `default` too, which the role of setup-approle.sh does without.
path "auth/token/lookup-self" {
  capabilities = ["read"]
}
path "auth/token/renew-self" {
  capabilities = ["update"]
}
path "auth/token/revoke-self" {
  capabilities = ["update"]
}

# A KV engine of version 1 has no versions: the value is at the path itself.
#path "kv/openrouter" { capabilities = ["read"] }

# A secret with a lease (databases, clouds, SSH): read, renewed before it ends, revoked at the end of the process.
#path "database/creds/keyhatch" { capabilities = ["read"] }
#path "sys/leases/renew" { capabilities = ["update"] }
#path "sys/leases/revoke" { capabilities = ["update"] }

# [store] unlock = "vault-transit", transit_key = "keyhatch": make the key yourself (`vault write -f transit/keys/keyhatch`).
# `encrypt` is needed by `init` and `store rekey` only, `decrypt` at every start.
#path "transit/encrypt/keyhatch" { capabilities = ["update"] }
#path "transit/decrypt/keyhatch" { capabilities = ["update"] }
