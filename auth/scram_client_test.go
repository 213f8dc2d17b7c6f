package auth

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/xdg-go/scram"
)

func TestScramClientRFC7677(t *testing.T) {
	library, err := scram.SHA256.NewClient("user", "pencil", "")
	if err != nil {
		t.Fatal(err)
	}
	library = library.WithNonceGenerator(func() string { return rfcClientNonce })
	c, err := NewScramClient("pencil", []string{scramSHA256}, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.conversation = library.NewConversation()
	if got, err := c.First(); string(got) != rfcClientFirst || err != nil {
		t.Fatalf("client-first %q, %v; want %q", got, err, rfcClientFirst)
	}
	if got, err := c.Continue([]byte(rfcServerFirst)); string(got) != rfcClientFinal || err != nil {
		t.Fatalf("client-final %q, %v; want %q", got, err, rfcClientFinal)
	}
	if err := c.Final([]byte(rfcServerFinal)); err != nil {
		t.Fatal(err)
	}
}

func TestScramClientChooses(t *testing.T) {
	both, plain := []string{scramSHA256Plus, scramSHA256}, []string{scramSHA256}
	for name, test := range map[string]struct {
		offered  []string
		binding  []byte
		want     string // mechanism
		wantFlag string
	}{
		"no tls":            {plain, nil, scramSHA256, "n,,"},
		"no tls, plus":      {both, nil, scramSHA256, "n,,"},
		"tls, plus":         {both, []byte("x"), scramSHA256Plus, "p=tls-server-end-point,,"},
		"tls, no plus":      {plain, []byte("x"), scramSHA256, "y,,"},
		"tls, only plus":    {both[:1], []byte("x"), scramSHA256Plus, "p=tls-server-end-point,,"},
		"no tls, only plus": {both[:1], nil, "", ""},
		"nothing":           {nil, nil, "", ""},
		"something else":    {[]string{"OAUTHBEARER"}, []byte("x"), "", ""},
	} {
		c, err := NewScramClient("pencil", test.offered, test.binding)
		if test.want == "" {
			if err == nil {
				t.Errorf("%s: no error", name)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		first, err := c.First()
		if err != nil || c.Mechanism() != test.want || !strings.HasPrefix(string(first), test.wantFlag+"n=,r=") {
			t.Errorf("%s: %s, %q, %v; want %s, %s", name, c.Mechanism(), first, err, test.want, test.wantFlag)
		}
	}
}

func TestScramClientRefuses(t *testing.T) {
	begin := func() (c *ScramClient, nonce string) {
		c, err := NewScramClient("pencil", []string{scramSHA256}, nil)
		if err != nil {
			t.Fatal(err)
		}
		first, err := c.First()
		if err != nil {
			t.Fatal(err)
		}
		return c, string(bytes.TrimPrefix(first, []byte("n,,n=,r=")))
	}
	for _, tail := range []string{
		"", ",s=c2FsdA==", ",s=c2FsdA==,i=0", ",s=c2FsdA==,i=-1", ",s=c2FsdA==,i=x", ",s=!,i=4096",
		",s=c2FsdA==,i=1000001", ",s=c2FsdA==,i=2147483647", ",s=c2FsdA==,i=99999999999999999999",
	} {
		c, nonce := begin()
		if reply, err := c.Continue([]byte("r=" + nonce + "abc" + tail)); err == nil {
			t.Errorf("%q: answered with %q", tail, reply)
		}
		if _, err := c.Continue([]byte("r=" + nonce + "abc,s=c2FsdA==,i=1")); err == nil {
			t.Errorf("%q: goes on after an error", tail)
		}
	}
	c, _ := begin()
	if _, err := c.Continue([]byte("r=stranger,s=c2FsdA==,i=1")); err == nil {
		t.Error("a nonce that is not ours is accepted")
	}
	for _, final := range []string{"", "v=", "v=AAAA", "e=invalid-proof", "x", "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="} {
		c, nonce := begin()
		if _, err := c.Continue([]byte("r=" + nonce + "abc,s=c2FsdA==,i=1")); err != nil {
			t.Fatal(err)
		}
		if err := c.Final([]byte(final)); err == nil {
			t.Errorf("%q is accepted as the server's signature", final)
		}
	}
	c, _ = begin()
	if err := c.Final([]byte(rfcServerFinal)); err == nil {
		t.Error("a server is accepted that asked for no proof")
	}
}

func FuzzScramClient(f *testing.F) {
	f.Add([]byte(",s=c2FsdA==,i=1"), []byte(rfcServerFinal))
	f.Add([]byte(",s=,i=4096,x"), []byte("e=other-error"))
	f.Add([]byte("m=,"), []byte("v="))
	f.Fuzz(func(t *testing.T, first, final []byte) {
		if i := bytes.Index(first, []byte("i=")); i >= 0 && len(first)-i > len("i=9999") {
			t.Skip("would spend its time hashing")
		}
		c, err := NewScramClient("pencil", []string{scramSHA256}, nil)
		if err != nil {
			t.Fatal(err)
		}
		m, err := c.First()
		if err != nil {
			t.Fatal(err)
		}
		nonce := bytes.TrimPrefix(m, []byte("n,,n=,r="))
		m, err = c.Continue(slices.Concat([]byte("r="), nonce, first))
		if err == nil && !bytes.HasPrefix(m, []byte("c=biws,r="+string(nonce))) {
			t.Errorf("client-final %q", m)
		}
		if err := c.Final(final); err == nil {
			t.Errorf("%q is accepted as the server's signature", final)
		}
	})
}
