# What the broker may do at Vault or OpenBao, and nothing else. `hallpass` is the token role that grants' tokens come from
# (`token_role` of the backend): how it has to be is in README.md beside this file.

# Tokens for grants. Which policies they can have is the token role's to say (allowed_policies).
path "auth/token/create/hallpass" { capabilities = ["update"] }

# Ending them, seeing that they are gone, and finding those whose making nobody heard of. Vault has no narrower right than
# to look up and revoke any token by its accessor.
path "auth/token/revoke-accessor" { capabilities = ["update"] }
path "auth/token/lookup-accessor" { capabilities = ["update"] }
path "auth/token/accessors"       { capabilities = ["list", "sudo"] }
path "auth/token/accessors/"      { capabilities = ["list", "sudo"] }

# Its own session.
path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/renew-self"  { capabilities = ["update"] }

# Roles with the path of a database or of RabbitMQ: that a lease is gone. The last two lines find leases whose answer was
# lost; name the mounts that roles use.
path "sys/leases/lookup" { capabilities = ["update"] }
path "sys/leases/revoke" { capabilities = ["update"] }
path "sys/leases/lookup/database/creds/*" { capabilities = ["list", "sudo"] }
path "sys/leases/lookup/rabbitmq/creds/*" { capabilities = ["list", "sudo"] }

# Roles with the path of a PKI engine: that a certificate is on its revocation list.
path "pki/revoke" { capabilities = ["update"] }
path "pki/cert/*" { capabilities = ["read"] }
path "pki/issuer/+/crl" { capabilities = ["read"] }

# Optional: other doors to what grants reach, for the inventory. Without these it says that it cannot see them.
path "sys/auth"           { capabilities = ["read"] }
path "auth/+/role/*"      { capabilities = ["read", "list"] }
path "auth/+/users/*"     { capabilities = ["read", "list"] }
path "auth/token/roles/*" { capabilities = ["read", "list"] }
