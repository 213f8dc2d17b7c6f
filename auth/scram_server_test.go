package auth

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/xdg-go/scram"
)

// The exchange of RFC 7677 section 3.
const (
	rfcClientNonce = "rOprNGfwEbeRWgbNEkqO"
	rfcServerNonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
	rfcClientFirst = "n,,n=user,r=" + rfcClientNonce
	rfcServerFirst = "r=" + rfcClientNonce + rfcServerNonce + ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
	rfcClientFinal = "c=biws,r=" + rfcClientNonce + rfcServerNonce + ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
	rfcServerFinal = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
)

func TestScramServerRFC7677(t *testing.T) {
	s := NewScramServer(0)
	e, err := s.Begin("user", ParseSecret(pencilScram), true, scramSHA256, nil)
	if err != nil {
		t.Fatal(err)
	}
	server, err := scram.SHA256.NewServer(func(string) (scram.StoredCredentials, error) {
		return *ParseSecret(pencilScram).v.scram, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	e.conversation = server.WithNonceGenerator(func() string { return rfcServerNonce }).NewConversation()
	if reply, done, err := e.Step([]byte(rfcClientFirst)); string(reply) != rfcServerFirst || done || err != nil {
		t.Fatalf("server-first %q, %v, %v; want %q", reply, done, err, rfcServerFirst)
	}
	if reply, done, err := e.Step([]byte(rfcClientFinal)); string(reply) != rfcServerFinal || !done || err != nil {
		t.Fatalf("server-final %q, %v, %v; want %q", reply, done, err, rfcServerFinal)
	}
	if _, _, err := e.Step([]byte(rfcClientFinal)); err == nil {
		t.Error("a message after the end is accepted")
	}
}

// exchange runs a login of our client at our server.
func exchange(s *ScramServer, user, password string, secret Secret, known bool, clientBinding, serverBinding []byte) error {
	c, err := NewScramClient(password, s.Mechanisms(serverBinding), clientBinding)
	if err != nil {
		return err
	}
	e, err := s.Begin(user, secret, known, c.Mechanism(), serverBinding)
	if err != nil {
		return err
	}
	m, err := c.First()
	if err != nil {
		return err
	}
	m, done, err := e.Step(m)
	if err != nil {
		return err
	}
	if done {
		return errors.New("done too early")
	}
	if m, err = c.Continue(m); err != nil {
		return err
	}
	if m, done, err = e.Step(m); err != nil {
		return err
	}
	if !done {
		return errors.New("not done at the end")
	}
	return c.Final(m)
}

func TestScramExchange(t *testing.T) {
	s := NewScramServer(1000)
	bound, other := []byte("certificate"), []byte("another")
	for name, test := range map[string]struct {
		stored, password string
		unknown          bool
		client, server   []byte
		want             string // empty: authenticated
	}{
		"plain":              {stored: "pencil", password: "pencil"},
		"scram":              {stored: pencilScram, password: "pencil"},
		"one iteration":      {stored: oneIteration(t, "pencil"), password: "pencil"},
		"bound":              {stored: "pencil", password: "pencil", client: bound, server: bound},
		"client cannot bind": {stored: "pencil", password: "pencil", server: bound},
		"server cannot bind": {stored: "pencil", password: "pencil", client: bound},
		"man in the middle":  {stored: "pencil", password: "pencil", client: other, server: bound, want: "channel-bindings-dont-match"},
		"wrong, plain":       {stored: "pencil", password: "pencils", want: ErrInvalidProof.Error()},
		"wrong, scram":       {stored: pencilScram, password: "pencils", want: ErrInvalidProof.Error()},
		"wrong, bound":       {stored: "pencil", password: "pencils", client: bound, server: bound, want: ErrInvalidProof.Error()},
		"unknown":            {stored: "pencil", password: "pencil", unknown: true, want: ErrInvalidProof.Error()},
		"unknown, nothing":   {password: "pencil", unknown: true, want: ErrInvalidProof.Error()},
		"md5":                {stored: pencilMD5, password: "pencil", want: ErrInvalidProof.Error()},
		"none":               {password: "", want: ErrInvalidProof.Error()},
		// SASLprep: a soft hyphen vanishes, Ⅸ becomes IX (RFC 4013 section 3).
		"normalized": {stored: "I\u00adX", password: "\u2168"},
		// It rejects these; they count as they are.
		"control character": {stored: "a\x07b", password: "a\x07b"},
		"emoji":             {stored: "🔑", password: "🔑"},
		"not utf-8":         {stored: "a\xffb", password: "a\xffb"},
		"not utf-8, wrong":  {stored: "a\xffb", password: "a\xfeb", want: ErrInvalidProof.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			err := exchange(s, "user", test.password, ParseSecret(test.stored), !test.unknown, test.client, test.server)
			switch {
			case test.want == "" && err != nil:
				t.Error(err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("error %v, want %s", err, test.want)
			}
		})
	}
}

// oneIteration returns a verifier as scram_iterations = 1 makes it.
func oneIteration(t *testing.T, password string) string {
	t.Helper()
	k, err := deriveKeys(password, scram.KeyFactors{Salt: "salt", Iters: 1})
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$1:%s$%s:%s", encode([]byte("salt")), encode(k.StoredKey), encode(k.ServerKey))
}

// A stranger sees what a user with a plain secret sees: the same salt every
// time, another one than others, and the same iteration count.
func TestScramMockLooksReal(t *testing.T) {
	s := NewScramServer(5000)
	first := func(s *ScramServer, user string, secret Secret, known bool) (salt, count string) {
		e, err := s.Begin(user, secret, known, scramSHA256, nil)
		if err != nil {
			t.Fatal(err)
		}
		m, _, err := e.Step([]byte("n,,n=,r=abc"))
		if err != nil {
			t.Fatal(err)
		}
		fields := strings.Split(string(m), ",")
		if len(fields) != 3 {
			t.Fatalf("server-first %q", m)
		}
		return fields[1], fields[2]
	}
	salt, count := first(s, "ghost", Secret{}, false)
	if count != "i=5000" || len(salt) != len("s=")+24 {
		t.Errorf("salt %q, iterations %q", salt, count)
	}
	for name, same := range map[string]struct {
		secret string
		known  bool
	}{
		"again":            {"", false},
		"later with a md5": {pencilMD5, true},
		"later plain":      {"pencil", true},
		"password changed": {"pencil2", true},
	} {
		if got, n := first(s, "ghost", ParseSecret(same.secret), same.known); got != salt || n != count {
			t.Errorf("%s: %s, %s; want %s, %s", name, got, n, salt, count)
		}
	}
	if other, _ := first(s, "ghost2", Secret{}, false); other == salt {
		t.Error("two users have one salt")
	}
	if other, _ := first(NewScramServer(5000), "ghost", Secret{}, false); other == salt {
		t.Error("two processes have one salt")
	}
}

func TestScramDerivesOnce(t *testing.T) {
	s := NewScramServer(4096)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if err := exchange(s, "u", "pencil", ParseSecret("pencil"), true, nil, nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(s.derived) != 1 {
		t.Errorf("%d entries for one secret", len(s.derived))
	}
	a, _ := s.derive("u", "pencil")
	b, _ := s.derive("u", "pencil")
	if &a.StoredKey[0] != &b.StoredKey[0] {
		t.Error("the keys were derived twice")
	}
	for range 3 { // strangers leave nothing behind
		if err := exchange(s, "ghost", "x", Secret{}, false, nil, nil); !errors.Is(err, ErrInvalidProof) {
			t.Errorf("a stranger: %v", err)
		}
	}
	if len(s.derived) != 1 {
		t.Errorf("strangers left %d entries", len(s.derived)-1)
	}
}

func TestScramCacheIsBounded(t *testing.T) {
	s := NewScramServer(1)
	for i := range maxDerived + 10 {
		if _, err := s.derive(fmt.Sprint(i), "pencil"); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.derived) != maxDerived {
		t.Errorf("%d entries, want %d", len(s.derived), maxDerived)
	}
}

func TestScramPrecompute(t *testing.T) {
	s := NewScramServer(1)
	u, err := ParseUserlist(strings.NewReader("\"a\" \"1\"\n\"b\" \"2\"\n\"c\" \""+pencilScram+"\"\n\"d\" \"\"\n"), "f")
	if err != nil {
		t.Fatal(err)
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	if s.Precompute(stopped, u); len(s.derived) != 0 {
		t.Errorf("%d entries after the context was done", len(s.derived))
	}
	s.Precompute(t.Context(), nil)
	if s.Precompute(t.Context(), u); len(s.derived) != 2 {
		t.Errorf("%d entries, want one for each of two plain secrets", len(s.derived))
	}
	if err := exchange(s, "a", "1", ParseSecret("1"), true, nil, nil); err != nil || len(s.derived) != 2 {
		t.Errorf("%v, %d entries", err, len(s.derived))
	}
}

func TestScramMechanisms(t *testing.T) {
	s := NewScramServer(0)
	if got := s.Mechanisms(nil); !slices.Equal(got, []string{"SCRAM-SHA-256"}) {
		t.Errorf("without binding: %q", got)
	}
	if got := s.Mechanisms([]byte("x")); !slices.Equal(got, []string{"SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"}) {
		t.Errorf("with binding: %q", got)
	}
	for _, mechanism := range []string{"", "SCRAM-SHA-1", "scram-sha-256", "SCRAM-SHA-256-PLUS"} {
		if _, err := s.Begin("u", ParseSecret("x"), true, mechanism, nil); err == nil {
			t.Errorf("mechanism %q is accepted", mechanism)
		}
	}
}

func TestScramServerRefuses(t *testing.T) {
	s := NewScramServer(1)
	for name, test := range map[string]struct {
		mechanism string
		binding   []byte
		first     string
		want      string
	}{
		"nothing":              {scramSHA256, nil, "", "malformed"},
		"garbage":              {scramSHA256, nil, "hello\n", "malformed"},
		"no nonce":             {scramSHA256, nil, "n,,n=", "malformed"},
		"extension":            {scramSHA256, nil, "n,,m=x,n=,r=abc", "malformed"},
		"authorization id":     {scramSHA256, nil, "n,a=root,n=,r=abc", "authorization identity"},
		"flag without plus":    {scramSHA256, []byte("x"), "p=tls-server-end-point,,n=,r=abc", "does not fit"},
		"plus without flag":    {scramSHA256Plus, []byte("x"), "n,,n=,r=abc", "does not fit"},
		"plus with y":          {scramSHA256Plus, []byte("x"), "y,,n=,r=abc", "does not fit"},
		"downgrade":            {scramSHA256, []byte("x"), "y,,n=,r=abc", "server-does-support-channel-binding"},
		"another binding type": {scramSHA256Plus, []byte("x"), "p=tls-unique,,n=,r=abc", "unsupported-channel-binding-type"},
		"too long":             {scramSHA256, nil, "n,,n=,r=" + strings.Repeat("x", 1024), "too long"},
	} {
		e, err := s.Begin("u", ParseSecret("pencil"), true, test.mechanism, test.binding)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		reply, done, err := e.Step([]byte(test.first))
		if err == nil || !strings.Contains(err.Error(), test.want) || reply != nil || !done {
			t.Errorf("%s: %q, %v, error %v; want %s", name, reply, done, err, test.want)
		}
		if err != nil && strings.ContainsAny(err.Error(), "\n") {
			t.Errorf("%s: the error carries the client's bytes", name)
		}
	}
	// The second message: another nonce, another header, a short proof.
	for _, change := range []func(string) string{
		func(m string) string { return strings.Replace(m, ",r=", ",r=x", 1) },
		func(m string) string { return strings.Replace(m, "c=biws", "c=eSws", 1) },
		func(m string) string { return m[:strings.LastIndex(m, "p=")] + "p=AAAA" },
		func(string) string { return "" },
	} {
		e, err := s.Begin("u", ParseSecret("pencil"), true, scramSHA256, nil)
		if err != nil {
			t.Fatal(err)
		}
		c, err := NewScramClient("pencil", []string{scramSHA256}, nil)
		if err != nil {
			t.Fatal(err)
		}
		first, _ := c.First()
		reply, _, err := e.Step(first)
		if err != nil {
			t.Fatal(err)
		}
		final, err := c.Continue(reply)
		if err != nil {
			t.Fatal(err)
		}
		if _, done, err := e.Step([]byte(change(string(final)))); err == nil || !done || errors.Is(err, ErrInvalidProof) {
			t.Errorf("%q: done %v, error %v", change(string(final)), done, err)
		}
	}
}

func FuzzScramExchangeStep(f *testing.F) {
	f.Add([]byte("n,,n=,r=abc"), []byte("c=biws,r=abc,p=AAAA"), false, false)
	f.Add([]byte(rfcClientFirst), []byte(rfcClientFinal), false, true)
	f.Add([]byte("p=tls-server-end-point,,n=,r=abc"), []byte("c=cD10bHMtc2VydmVyLWVuZC1wb2ludCwsYmluZGluZw==,r=abc,p="), true, true)
	f.Add([]byte("y,a==2C,n==3D,r="), []byte{}, false, false)
	s := NewScramServer(1)
	f.Fuzz(func(t *testing.T, first, final []byte, plus, known bool) {
		mechanism, binding := scramSHA256, []byte(nil)
		if plus {
			mechanism, binding = scramSHA256Plus, []byte("binding")
		}
		e, err := s.Begin("u", ParseSecret("pencil"), known, mechanism, binding)
		if err != nil {
			t.Fatal(err)
		}
		reply, done, err := e.Step(first)
		if done != (err != nil) || (err == nil) != strings.HasPrefix(string(reply), "r=") {
			t.Fatalf("first: %q, %v, %v", reply, done, err)
		}
		// The nonce of the server cannot be guessed: append it for the fuzzer.
		nonce, _, _ := strings.Cut(strings.TrimPrefix(string(reply), "r="), ",")
		final = bytes.Replace(final, []byte("r=abc"), []byte("r="+nonce), 1)
		if reply, done, err := e.Step(final); err == nil || !done || reply != nil {
			t.Fatalf("authenticated without the password: %q, %v, %v", reply, done, err)
		}
	})
}
