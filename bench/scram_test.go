package main

import (
	"strings"
	"testing"
)

// The example of RFC 7677, section 3, with the user name left out of it as
// PostgreSQL does: so the proof differs, but the server's keys do not.
func TestScramKeys(t *testing.T) {
	c := &credentials{user: "user", password: "pencil"}
	keys, err := c.derive("W22ZaJ0SNY7soEsUEjb6gQ==", 4096)
	if err != nil {
		t.Fatal(err)
	}
	// The RFC's own messages, with n=user.
	const message = "n=user,r=rOprNGfwEbeRWgbNEkqO," +
		"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096," +
		"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
	e := &exchange{credentials: c, signature: hmacSHA256(keys.server, message)}
	if err := e.verify("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="); err != nil {
		t.Error(err)
	}
	if err := e.verify("v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="); err == nil {
		t.Error("another signature was taken")
	}
	if err := c.begin().verify("v="); err == nil {
		t.Error("a signature before the proof was taken")
	}
}

func TestScramKeysAreKept(t *testing.T) {
	c := &credentials{password: "pencil"}
	for _, salt := range []string{"W22ZaJ0SNY7soEsUEjb6gQ==", "W22ZaJ0SNY7soEsUEjb6gQ==", "AAAA"} {
		if _, err := c.derive(salt, 2); err != nil {
			t.Fatal(err)
		}
	}
	if len(c.keys) != 2 {
		t.Errorf("%d kept for 2 salts", len(c.keys))
	}
}

func TestScramRefuses(t *testing.T) {
	c := &credentials{password: "pencil"}
	e := c.begin()
	for _, bad := range []string{
		"", "r=other,s=AAAA,i=1", "r=" + e.nonce + "x,s=AAAA", "r=" + e.nonce + "x,s=AAAA,i=x", "r=" + e.nonce + "x,s=*,i=1",
	} {
		if got, err := e.final(bad); err == nil {
			t.Errorf("%q: %q", bad, got)
		}
	}
	got, err := e.final("r=" + e.nonce + "x,s=AAAA,i=1")
	if err != nil || !strings.HasPrefix(got, "c=biws,r="+e.nonce+"x,p=") {
		t.Errorf("%q, %v", got, err)
	}
}
