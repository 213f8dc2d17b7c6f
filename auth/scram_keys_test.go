package auth

import (
	"fmt"
	"strings"
	"testing"
)

// scramLogin runs a login of c and returns the exchange.
func scramLogin(s *ScramServer, secret Secret, c *ScramClient, binding []byte) (*ScramExchange, error) {
	e, err := s.Begin("user", secret, true, c.Mechanism(), binding)
	if err != nil {
		return nil, err
	}
	m, err := c.First()
	if err != nil {
		return nil, err
	}
	if m, _, err = e.Step(m); err != nil {
		return nil, err
	}
	if m, err = c.Continue(m); err != nil {
		return nil, err
	}
	if m, _, err = e.Step(m); err != nil {
		return nil, err
	}
	return e, c.Final(m)
}

// TestScramKeys logs in with a password, and then, with the keys that this has
// revealed, to another server that has the same secret.
func TestScramKeys(t *testing.T) {
	secret := ParseSecret(pencilScram)
	for _, binding := range [][]byte{nil, []byte("hash of a certificate")} {
		first, second := NewScramServer(0), NewScramServer(0)
		client, err := NewScramClient("pencil", first.Mechanisms(binding), binding)
		if err != nil {
			t.Fatal(err)
		}
		e, err := scramLogin(first, secret, client, binding)
		if err != nil {
			t.Fatal(err)
		}
		keys := e.Keys()
		if !keys.Fit(secret) {
			t.Fatal("the keys do not fit their secret")
		}
		if shown := fmt.Sprintf("%v %+v %#v %s", keys, keys, *keys, keys); strings.Trim(shown, "[redact] ") != "" {
			t.Errorf("the keys print as %s", shown)
		}
		for _, at := range [][]byte{nil, binding} {
			if client, err = NewScramClientWithKeys(keys, second.Mechanisms(at), at); err != nil {
				t.Fatal(err)
			}
			again, err := scramLogin(second, secret, client, at)
			if err != nil {
				t.Errorf("bound to %q, with the keys: %v", at, err)
			} else if !again.Keys().Equal(keys) {
				t.Error("a login with the keys reveals others")
			}
		}

		other := ParseSecret("pencil") // the same password under another salt
		if keys.Fit(other) {
			t.Error("the keys fit another secret")
		}
		if client, err = NewScramClientWithKeys(keys, second.Mechanisms(nil), nil); err != nil {
			t.Fatal(err)
		}
		if _, err := scramLogin(second, other, client, nil); err == nil || !strings.Contains(err.Error(), "another secret") {
			t.Errorf("at a server with another secret: %v", err)
		}
	}
}

// TestScramKeysOfPlain has none: they would open nothing but ourselves.
func TestScramKeysOfPlain(t *testing.T) {
	s := NewScramServer(0)
	client, err := NewScramClient("pencil", s.Mechanisms(nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	e, err := scramLogin(s, ParseSecret("pencil"), client, nil)
	if err != nil || e.Keys() != nil {
		t.Errorf("keys %v, %v", e.Keys(), err)
	}
	if (*ScramKeys)(nil).Fit(ParseSecret(pencilScram)) || !(*ScramKeys)(nil).Equal(nil) {
		t.Error("no keys are keys")
	}
}

// TestScramKeysVerify has a server that does not know the secret, but echoes
// what it can.
func TestScramKeysVerify(t *testing.T) {
	secret := ParseSecret(pencilScram)
	s := NewScramServer(0)
	client, _ := NewScramClient("pencil", s.Mechanisms(nil), nil)
	e, err := scramLogin(s, secret, client, nil)
	if err != nil {
		t.Fatal(err)
	}
	first := func(c *ScramClient) string {
		m, err := c.First()
		if err != nil {
			t.Fatal(err)
		}
		return string(m)
	}
	for _, final := range []string{"", "v=", "v=AAAA", "e=other-error"} {
		c, _ := NewScramClientWithKeys(e.Keys(), []string{scramSHA256}, nil)
		nonce := strings.TrimPrefix(first(c), "n,,n=,r=")
		if _, err := c.Continue([]byte("r=" + nonce + "x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096")); err != nil {
			t.Fatal(err)
		}
		if c.Final([]byte(final)) == nil {
			t.Errorf("%q passes for a proof", final)
		}
	}
	for _, message := range []string{"", "r=,s=,i=", "r=NONCE,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", "r=elsex,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", "r=NONCEx,s=W22ZaJ0SNY7soEsUEjb6gQ=="} {
		c, _ := NewScramClientWithKeys(e.Keys(), []string{scramSHA256}, nil)
		nonce := strings.TrimPrefix(first(c), "n,,n=,r=")
		if _, err := c.Continue([]byte(strings.ReplaceAll(message, "NONCE", nonce))); err == nil {
			t.Errorf("%q is answered", message)
		}
	}
}

// FuzzScramKeysContinue checks that only what begins with our nonce, and has our
// salt, is answered.
func FuzzScramKeysContinue(f *testing.F) {
	s := NewScramServer(0)
	secret := ParseSecret(pencilScram)
	client, err := NewScramClient("pencil", s.Mechanisms(nil), nil)
	if err != nil {
		f.Fatal(err)
	}
	e, err := scramLogin(s, secret, client, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add("r=NONCEx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096")
	f.Add("r=NONCE,s=,i=")
	f.Fuzz(func(t *testing.T, message string) {
		c, err := NewScramClientWithKeys(e.Keys(), []string{scramSHA256}, nil)
		if err != nil {
			t.Fatal(err)
		}
		first, err := c.First()
		if err != nil {
			t.Fatal(err)
		}
		nonce := strings.TrimPrefix(string(first), "n,,n=,r=")
		message = strings.ReplaceAll(message, "NONCE", nonce)
		reply, err := c.Continue([]byte(message))
		if err == nil && (!strings.HasPrefix(message, "r="+nonce) || !strings.Contains(string(reply), ",p=")) {
			t.Errorf("%q is answered with %q", message, reply)
		}
	})
}
