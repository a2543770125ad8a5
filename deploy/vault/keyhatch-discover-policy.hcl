# What Keyhatch may do in Vault (or OpenBao) where it finds its credentials and agents by itself, and keeps nothing on its own disk:
#
#   [vault]
#   discover = "secret/keyhatch"
#   discover_agents = "secret/keyhatch-agents"
#   ca = "secret/keyhatch-ca"
#   signing_key = "secret/keyhatch-keys"
#
# It reads; it never writes below the two folders. People who store values need `create` and `update` on secret/data/keyhatch/*;
# the right to write secret/metadata/keyhatch/* says where values may be sent, so give that to fewer.
# Lines that begin with `#path` are variants: take the `#` away where the comment above them holds.

# Which credentials and agents there are.
path "secret/metadata/keyhatch/" {
  capabilities = ["list"]
}
path "secret/metadata/keyhatch-agents/" {
  capabilities = ["list"]
}

# Their versions and terms. `+` is one segment: a sub-folder stays closed.
path "secret/metadata/keyhatch/+" {
  capabilities = ["read"]
}
path "secret/metadata/keyhatch-agents/+" {
  capabilities = ["read"]
}

# Their values.
path "secret/data/keyhatch/+" {
  capabilities = ["read"]
}
path "secret/data/keyhatch-agents/+" {
  capabilities = ["read"]
}

# The CA, and the keys that sign session tokens and fingerprints: the first replica makes them, all read them. Without `update`
# nothing can replace what is there. `create` can be taken away after the first start.
path "secret/data/keyhatch-ca" {
  capabilities = ["create", "read"]
}
path "secret/data/keyhatch-keys" {
  capabilities = ["create", "read"]
}
path "secret/metadata/keyhatch-ca" {
  capabilities = ["read"]
}
path "secret/metadata/keyhatch-keys" {
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

# ca = "pki/root/sign-intermediate": each replica gets an intermediate of its own, and secret/keyhatch-ca is not needed. Agents trust
# the root of that engine, so let it sign for nothing else: whoever has this right can stand in for any host before them.
#path "pki/root/sign-intermediate" { capabilities = ["update"] }

# [store] unlock = "vault-transit", transit_key = "keyhatch", where there is a local store as well: make the key yourself
# (`vault write -f transit/keys/keyhatch`). `encrypt` is needed by `init` and `store rekey` only, `decrypt` at every start.
#path "transit/encrypt/keyhatch" { capabilities = ["update"] }
#path "transit/decrypt/keyhatch" { capabilities = ["update"] }
