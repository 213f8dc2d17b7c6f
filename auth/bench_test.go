package auth

import (
	"testing"
	"time"

	"github.com/xdg-go/scram"
)

// BenchmarkScramServer is what one login of a client costs, with keys that are
// there already. The exchange is that of RFC 7677, so that the client's part
// is no part of it; for its nonce a conversation is made twice.
func BenchmarkScramServer(b *testing.B) {
	s := NewScramServer(0)
	secret := ParseSecret(pencilScram)
	server, err := scram.SHA256.NewServer(func(string) (scram.StoredCredentials, error) { return *secret.v.scram, nil })
	if err != nil {
		b.Fatal(err)
	}
	server = server.WithNonceGenerator(func() string { return rfcServerNonce })
	first, final := []byte(rfcClientFirst), []byte(rfcClientFinal)
	b.ReportAllocs()
	for b.Loop() {
		e, err := s.Begin("user", secret, true, scramSHA256, nil)
		if err != nil {
			b.Fatal(err)
		}
		e.conversation = server.NewConversation()
		if _, _, err := e.Step(first); err != nil {
			b.Fatal(err)
		}
		if _, done, err := e.Step(final); err != nil || !done {
			b.Fatal(done, err)
		}
	}
}

// BenchmarkScramClient is what one login to a server costs. The server is ours
// and has its keys: its part is about a hundredth of it.
func BenchmarkScramClient(b *testing.B) {
	s := NewScramServer(0)
	secret := ParseSecret(pencilScram)
	b.ReportAllocs()
	for b.Loop() {
		if err := exchange(s, "user", "pencil", secret, true, nil, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	salt := [4]byte{1, 2, 3, 4}
	for _, bench := range []struct{ name, stored string }{{"plain", "pencil"}, {"md5", pencilMD5}} {
		secret := ParseSecret(bench.stored)
		response, ok := secret.MD5Response("user", salt)
		if !ok {
			b.Fatal("no response")
		}
		b.Run("md5 of "+bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !secret.VerifyMD5("user", salt, response) {
					b.Fatal("wrong")
				}
			}
		})
	}
}

// BenchmarkToken is the token that one login to a server needs, when it is in
// the cache.
func BenchmarkToken(b *testing.B) {
	s := NewTokenSource(TokenSourceConfig{Credentials: &credentialSource{life: time.Hour}})
	defer s.Close()
	if _, err := s.Token(b.Context(), testKey); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Token(b.Context(), testKey); err != nil {
			b.Fatal(err)
		}
	}
}
