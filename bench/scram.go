package main

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
)

// credentials log in with SCRAM-SHA-256. What is hashed thousands of times is
// computed once for each salt and kept: the clients of a benchmark must not
// use the CPU that those under test need. All clients may share them.
type credentials struct {
	user     string
	password string

	mu   sync.Mutex // guards keys
	keys map[string]scramKeys
}

// scramKeys are RFC 5802's, derived from a password with a salt.
type scramKeys struct {
	client, stored, server []byte
}

func hmacSHA256(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// derive returns the keys for a salt, in base64 as the server sends it.
func (c *credentials) derive(salt string, iterations int) (scramKeys, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := strconv.Itoa(iterations) + ":" + salt
	if keys, ok := c.keys[id]; ok {
		return keys, nil
	}
	raw, err := base64.StdEncoding.DecodeString(salt)
	if err != nil {
		return scramKeys{}, fmt.Errorf("scram: salt: %w", err)
	}
	salted, err := pbkdf2.Key(sha256.New, c.password, raw, iterations, sha256.Size)
	if err != nil {
		return scramKeys{}, fmt.Errorf("scram: %w", err)
	}
	keys := scramKeys{client: hmacSHA256(salted, "Client Key"), server: hmacSHA256(salted, "Server Key")}
	stored := sha256.Sum256(keys.client)
	keys.stored = stored[:]
	if c.keys == nil {
		c.keys = make(map[string]scramKeys)
	}
	c.keys[id] = keys
	return keys, nil
}

// exchange is one login's SCRAM conversation (RFC 5802), without channel
// binding. PostgreSQL takes the user from the startup message, not from here.
type exchange struct {
	credentials *credentials
	nonce       string
	signature   []byte // that the server must show in the end
}

func (c *credentials) begin() *exchange { return &exchange{credentials: c, nonce: rand.Text()} }

func (e *exchange) first() string { return "n,," + e.firstBare() }

func (e *exchange) firstBare() string { return "n=,r=" + e.nonce }

// final answers the server's first message.
func (e *exchange) final(serverFirst string) (string, error) {
	fields := strings.Split(serverFirst, ",")
	if len(fields) != 3 || !strings.HasPrefix(fields[0], "r="+e.nonce) ||
		!strings.HasPrefix(fields[1], "s=") || !strings.HasPrefix(fields[2], "i=") {
		return "", fmt.Errorf("scram: unexpected first message of the server")
	}
	iterations, err := strconv.Atoi(fields[2][2:])
	if err != nil {
		return "", fmt.Errorf("scram: iterations: %w", err)
	}
	keys, err := e.credentials.derive(fields[1][2:], iterations)
	if err != nil {
		return "", err
	}
	final := "c=biws," + fields[0] // biws: "n,," in base64
	message := e.firstBare() + "," + serverFirst + "," + final
	proof := hmacSHA256(keys.stored, message)
	subtle.XORBytes(proof, proof, keys.client)
	e.signature = hmacSHA256(keys.server, message)
	return final + ",p=" + base64.StdEncoding.EncodeToString(proof), nil
}

// verify checks the server's last message.
func (e *exchange) verify(serverFinal string) error {
	if e.signature == nil || serverFinal != "v="+base64.StdEncoding.EncodeToString(e.signature) {
		return errors.New("scram: the server does not know the password")
	}
	return nil
}
