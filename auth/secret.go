package auth

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"math"
	"strconv"
	"strings"

	"github.com/xdg-go/scram"
)

// SecretKind says in which form a password is stored.
type SecretKind uint8

// The kinds of a Secret.
const (
	SecretNone  SecretKind = iota // there is none: matches nothing
	SecretPlain                   // the password itself
	SecretMD5                     // "md5" and the hex MD5 of password and user name
	SecretScram                   // a SCRAM-SHA-256 verifier, as in pg_authid
)

// Secret is a stored password in one of PostgreSQL's forms. It is immutable,
// its zero value is SecretNone, and it prints redacted.
type Secret struct {
	redacted
	v *secret
}

type secret struct {
	kind  SecretKind
	text  *string                  // SecretPlain: the password; SecretMD5: the 32 hex digits
	scram *scram.StoredCredentials // SecretScram
}

// ParseSecret tells the kind of s by its form, as PgBouncer and PostgreSQL's
// get_password_type do: what is neither a well-formed MD5 nor a well-formed
// SCRAM secret is a plain password.
func ParseSecret(s string) Secret {
	if s == "" {
		return Secret{}
	}
	if digits, ok := strings.CutPrefix(s, "md5"); ok && len(digits) == 32 && strings.Trim(digits, "0123456789abcdef") == "" {
		return Secret{v: &secret{kind: SecretMD5, text: &digits}}
	}
	if stored, ok := parseVerifier(s); ok {
		return Secret{v: &secret{kind: SecretScram, scram: &stored}}
	}
	return PlainSecret(s)
}

// PlainSecret is a password that is known to be one, whatever it looks like.
func PlainSecret(password string) Secret {
	if password == "" {
		return Secret{}
	}
	return Secret{v: &secret{kind: SecretPlain, text: &password}}
}

// parseVerifier reads SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>
// (PostgreSQL documentation, pg_authid).
func parseVerifier(s string) (stored scram.StoredCredentials, ok bool) {
	parts := strings.Split(s, "$")
	if len(parts) != 3 || parts[0] != scramSHA256 {
		return stored, false
	}
	count, salt, _ := strings.Cut(parts[1], ":")
	storedKey, serverKey, _ := strings.Cut(parts[2], ":")
	iterations, err := strconv.Atoi(count)
	if err != nil || iterations < 1 || iterations > math.MaxInt32 {
		return stored, false
	}
	stored = scram.StoredCredentials{
		KeyFactors: scram.KeyFactors{Salt: string(decodeBase64(salt)), Iters: iterations},
		StoredKey:  decodeBase64(storedKey),
		ServerKey:  decodeBase64(serverKey),
	}
	ok = stored.Salt != "" && len(stored.StoredKey) == sha256.Size && len(stored.ServerKey) == sha256.Size
	return stored, ok
}

// decodeBase64 returns nil for what is not base64. Line breaks, which Go's
// decoder skips, are not base64 here.
func decodeBase64(s string) []byte {
	if strings.ContainsAny(s, "\r\n") {
		return nil
	}
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil
	}
	return b
}

// Kind returns the form of the secret.
func (s Secret) Kind() SecretKind {
	if s.v == nil {
		return SecretNone
	}
	return s.v.kind
}

// Equal reports whether s and o are the same secret in the same form.
func (s Secret) Equal(o Secret) bool {
	switch {
	case s.Kind() != o.Kind():
		return false
	case s.v == o.v:
		return true
	case s.Kind() == SecretScram:
		a, b := s.v.scram, o.v.scram
		return a.KeyFactors == b.KeyFactors && bytes.Equal(a.StoredKey, b.StoredKey) && bytes.Equal(a.ServerKey, b.ServerKey)
	}
	return *s.v.text == *o.v.text
}

// Plain returns the password if the secret is one, for a login with it.
func (s Secret) Plain() (string, bool) {
	if s.Kind() != SecretPlain {
		return "", false
	}
	return *s.v.text, true
}

// VerifyPlain reports whether password is the one that s stores for user. The
// time it takes does not depend on how much of it is right. An empty password
// is never right, as in PostgreSQL. For a SCRAM secret it hashes as often as
// the secret says, which is milliseconds of CPU.
func (s Secret) VerifyPlain(user, password string) bool {
	if password == "" {
		return false
	}
	switch s.Kind() {
	case SecretPlain:
		// Hashed first, because a comparison tells the length.
		want, got := sha256.Sum256([]byte(*s.v.text)), sha256.Sum256([]byte(password))
		return subtle.ConstantTimeCompare(want[:], got[:]) == 1
	case SecretMD5:
		return subtle.ConstantTimeCompare([]byte(*s.v.text), []byte(md5Hex(password, user))) == 1
	case SecretScram:
		got, err := deriveKeys(password, s.v.scram.KeyFactors)
		return err == nil && subtle.ConstantTimeCompare(s.v.scram.StoredKey, got.StoredKey) == 1
	}
	return false
}

// VerifyMD5 reports whether response, with its "md5" in front, answers the
// challenge salt for user. SCRAM secrets cannot tell and never match.
func (s Secret) VerifyMD5(user string, salt [4]byte, response string) bool {
	want, ok := s.MD5Response(user, salt)
	return ok && subtle.ConstantTimeCompare([]byte(want), []byte(response)) == 1
}

// MD5Response returns the answer to the challenge salt of a server
// (AuthenticationMD5Password): "md5" + hex(md5(hex(md5(password + user)) + salt)).
// Only plain and MD5 secrets have one.
func (s Secret) MD5Response(user string, salt [4]byte) (string, bool) {
	switch s.Kind() {
	case SecretPlain:
		return "md5" + md5Hex(md5Hex(*s.v.text, user), string(salt[:])), true
	case SecretMD5:
		return "md5" + md5Hex(*s.v.text, string(salt[:])), true
	}
	return "", false
}

func md5Hex(a, b string) string {
	sum := md5.Sum([]byte(a + b))
	return hex.EncodeToString(sum[:])
}
