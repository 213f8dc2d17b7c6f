// Package auth holds what is needed to prove who somebody is, as parsers and
// state machines without connections: secrets and the userlist file, HBA and
// ident files, both sides of SCRAM-SHA-256 and the MD5 answer. Two parts do open
// connections, since nobody else needs to know about them: the source of AWS RDS
// IAM tokens, and LDAP.
//
// # SCRAM
//
// Both roles run on github.com/xdg-go/scram. Its server takes the stored keys
// from a function, so that an unknown user gets made-up ones and then walks
// through exactly the code of a known one; nothing in it depends on the user.
// Around it stand the rules of PostgreSQL's auth-scram.c that it does not have:
// the mechanism and the channel-binding flag must agree, an authorization
// identity is refused, the user name inside the message is ignored, and a
// password that SASLprep rejects is used as it is. Its error texts quote the
// peer's bytes and are replaced.
//
// A client that logs in reveals the keys that open a server with the same stored
// secret, ScramKeys; logging in with them is our own code, since the library
// starts from a password.
//
// # Secrets
//
// Secret and Token print as "[redacted]" whatever the verb. fmt cannot call
// methods on unexported fields, so a struct that holds one in such a field
// would print it whole: hence they keep the value behind two pointers, of which
// fmt follows at most one.
package auth
