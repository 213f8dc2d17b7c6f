package auth

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"

	"github.com/xdg-go/scram"
)

// ScramKeys are what is needed to log in with SCRAM to whoever stores a certain
// secret. A secret alone does not have them: they are revealed by a client that
// logs in against it. A nil ScramKeys fits no secret. It prints redacted.
type ScramKeys struct {
	redacted
	v *scramKeys
}

type scramKeys struct {
	factors                         scram.KeyFactors
	clientKey, storedKey, serverKey []byte
}

// Equal reports whether k and o are the same keys, or both nil.
func (k *ScramKeys) Equal(o *ScramKeys) bool {
	if k == nil || o == nil {
		return k == o
	}
	return k.v == o.v || k.v.factors == o.v.factors && bytes.Equal(k.v.clientKey, o.v.clientKey) && bytes.Equal(k.v.serverKey, o.v.serverKey)
}

// Fit reports whether the keys are those of s.
func (k *ScramKeys) Fit(s Secret) bool {
	return k != nil && s.Kind() == SecretScram && k.v.factors == s.v.scram.KeyFactors &&
		bytes.Equal(k.v.storedKey, s.v.scram.StoredKey) && bytes.Equal(k.v.serverKey, s.v.scram.ServerKey)
}

// keyConversation is a client's side of SCRAM with keys instead of a password.
type keyConversation struct {
	keys      *scramKeys
	gs2       string // how the channel is bound
	binding   []byte
	nonce     string
	firstBare string
	signature []byte // what the server must answer
	begun     bool
	valid     bool
}

func newKeyConversation(k *ScramKeys, gs2 string, binding []byte) *keyConversation {
	var nonce [18]byte
	rand.Read(nonce[:])
	c := &keyConversation{keys: k.v, gs2: gs2, binding: binding, nonce: base64.StdEncoding.EncodeToString(nonce[:])}
	c.firstBare = "n=,r=" + c.nonce // PostgreSQL takes the user of the startup packet
	return c
}

// Valid reports whether the server has proved that it has the same keys.
func (c *keyConversation) Valid() bool { return c.valid }

// Step answers the server's messages, beginning before the first, by the
// rules of RFC 5802. ScramClient sees to their order.
func (c *keyConversation) Step(message string) (string, error) {
	switch {
	case !c.begun:
		c.begun = true
		return c.gs2 + c.firstBare, nil
	case c.signature == nil:
		return c.proof(message)
	}
	v, ok := strings.CutPrefix(message, "v=")
	if !ok || subtle.ConstantTimeCompare(decodeBase64(v), c.signature) != 1 {
		return "", errors.New("the server's signature is not valid")
	}
	c.valid = true
	return "", nil
}

func (c *keyConversation) proof(serverFirst string) (string, error) {
	fields := strings.Split(serverFirst, ",")
	if len(fields) < 3 {
		return "", errors.New("malformed message from the server")
	}
	nonce, isNonce := strings.CutPrefix(fields[0], "r=")
	salt, isSalt := strings.CutPrefix(fields[1], "s=")
	count, isCount := strings.CutPrefix(fields[2], "i=")
	iterations, err := strconv.Atoi(count)
	switch {
	case !isNonce || !isSalt || !isCount || err != nil:
		return "", errors.New("malformed message from the server")
	case !strings.HasPrefix(nonce, c.nonce) || len(nonce) == len(c.nonce):
		return "", errors.New("the server's nonce is not valid")
	case string(decodeBase64(salt)) != c.keys.factors.Salt || iterations != c.keys.factors.Iters:
		return "", errors.New("the server has another secret than the one that the client has logged in against")
	}
	final := "c=" + base64.StdEncoding.EncodeToString(append([]byte(c.gs2), c.binding...)) + ",r=" + nonce
	authMessage := []byte(c.firstBare + "," + serverFirst + "," + final)
	c.signature = hmacSHA256(c.keys.serverKey, authMessage)
	proof := make([]byte, sha256.Size)
	subtle.XORBytes(proof, c.keys.clientKey, hmacSHA256(c.keys.storedKey, authMessage))
	return final + ",p=" + base64.StdEncoding.EncodeToString(proof), nil
}

func hmacSHA256(key, message []byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write(message)
	return m.Sum(nil)
}

// revealKeys returns the keys that a valid proof contains: it is ClientKey XOR
// HMAC(StoredKey, AuthMessage).
func revealKeys(stored *scram.StoredCredentials, clientFirst, serverFirst, clientFinal string) *ScramKeys {
	bare := clientFirst
	for range 2 { // the flag, and an authorization identity, which is empty
		_, bare, _ = strings.Cut(bare, ",")
	}
	at := strings.LastIndex(clientFinal, ",p=")
	if at < 0 {
		return nil
	}
	proof := decodeBase64(clientFinal[at+len(",p="):])
	if len(proof) != sha256.Size {
		return nil
	}
	authMessage := bare + "," + serverFirst + "," + clientFinal[:at]
	clientKey := make([]byte, sha256.Size)
	subtle.XORBytes(clientKey, proof, hmacSHA256(stored.StoredKey, []byte(authMessage)))
	return &ScramKeys{v: &scramKeys{stored.KeyFactors, clientKey, stored.StoredKey, stored.ServerKey}}
}
