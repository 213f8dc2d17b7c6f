package auth

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

const (
	// The password "pencil" as PostgreSQL stores it: for the user "user" with
	// MD5, and with the salt of RFC 7677.
	pencilMD5   = "md520c46e3762c864548e296b33c3406aa9"
	pencilScram = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
)

func TestParseSecretKind(t *testing.T) {
	verifier := func(old, new string) string { return strings.Replace(pencilScram, old, new, 1) }
	for in, want := range map[string]SecretKind{
		"":                                       SecretNone,
		"pencil":                                 SecretPlain,
		" ":                                      SecretPlain,
		pencilMD5:                                SecretMD5,
		strings.ToUpper(pencilMD5):               SecretPlain,
		"md5" + strings.ToUpper(pencilMD5[3:]):   SecretPlain,
		pencilMD5 + "0":                          SecretPlain,
		pencilMD5[:34]:                           SecretPlain,
		"md5":                                    SecretPlain,
		pencilScram:                              SecretScram,
		verifier("4096", "1"):                    SecretScram,
		verifier("4096", "0"):                    SecretPlain,
		verifier("4096", "-1"):                   SecretPlain,
		verifier("4096", "99999999999"):          SecretPlain,
		verifier("4096", "x"):                    SecretPlain,
		verifier("W22ZaJ0SNY7soEsUEjb6gQ==", ""): SecretPlain,
		verifier("W22Z", "W2\nZ"):                SecretPlain,
		verifier("W22Z", "!22Z"):                 SecretPlain,
		verifier("SHA-256", "SHA-1"):             SecretPlain,
		verifier("WG5d", ""):                     SecretPlain,
		pencilScram + "$":                        SecretPlain,
		pencilScram[:len(pencilScram)-1]:         SecretPlain,
	} {
		if got := ParseSecret(in).Kind(); got != want {
			t.Errorf("ParseSecret(%q) is of kind %d, want %d", in, got, want)
		}
	}
}

func TestSecretVerifyPlain(t *testing.T) {
	for name, stored := range map[string]string{"plain": "pencil", "md5": pencilMD5, "scram": pencilScram} {
		s := ParseSecret(stored)
		if !s.VerifyPlain("user", "pencil") {
			t.Errorf("%s: the right password is refused", name)
		}
		for _, wrong := range []string{"", "pencil ", "penci", "Pencil", stored + "x"} {
			if s.VerifyPlain("user", wrong) {
				t.Errorf("%s: %q is accepted", name, wrong)
			}
		}
	}
	if ParseSecret(pencilMD5).VerifyPlain("other", "pencil") {
		t.Error("an md5 secret is accepted for another user")
	}
	for _, given := range []string{pencilMD5, pencilScram} {
		if ParseSecret(given).VerifyPlain("user", given) {
			t.Error("a stored secret is accepted as the password it stores")
		}
	}
	for _, given := range []string{"", "x"} {
		if ParseSecret("").VerifyPlain("user", given) {
			t.Errorf("no secret: %q is accepted", given)
		}
	}
}

func TestSecretMD5(t *testing.T) {
	salt := [4]byte{1, 2, 3, 0xff}
	// SELECT 'md5' || md5(convert_to(md5('pencil' || 'user'), 'UTF8') || '\x010203ff')
	const want = "md5673c3af101952f37135f47d3103c8b04"
	for name, stored := range map[string]string{"plain": "pencil", "md5": pencilMD5} {
		s := ParseSecret(stored)
		got, ok := s.MD5Response("user", salt)
		if !ok || got != want {
			t.Errorf("%s: response %q, want %q", name, got, want)
		}
		if !s.VerifyMD5("user", salt, want) {
			t.Errorf("%s: the right response is refused", name)
		}
		for _, wrong := range []string{"", want[3:], strings.ToUpper(want), pencilMD5, want + "0"} {
			if s.VerifyMD5("user", salt, wrong) {
				t.Errorf("%s: %q is accepted", name, wrong)
			}
		}
		if s.VerifyMD5("user", [4]byte{}, want) {
			t.Errorf("%s: the response to another salt is accepted", name)
		}
	}
	for _, stored := range []string{"", pencilScram} {
		s := ParseSecret(stored)
		if _, ok := s.MD5Response("user", salt); ok || s.VerifyMD5("user", salt, want) || s.VerifyMD5("user", salt, "") {
			t.Errorf("%q serves md5", stored)
		}
	}
}

func TestSecretsPrintRedacted(t *testing.T) {
	word := "Tr0ub4dor"
	secret := ParseSecret(word)
	tok := Token{v: &token{text: &word}}
	list, err := ParseUserlist(strings.NewReader(`"u" "`+word+`"`), "f")
	if err != nil {
		t.Fatal(err)
	}
	values := []any{
		secret, &secret, tok, &tok, list, *list,
		[]Secret{secret},
		map[string]Token{"t": tok},
		struct {
			hidden Secret
			Shown  Token
		}{secret, tok},
	}
	core, logs := observer.New(zap.DebugLevel)
	for i, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T", "%p"} {
			if out := fmt.Sprintf(verb, v); leaks(out, word) {
				t.Errorf("value %d with %s: %s", i, verb, out)
			}
		}
		if out, err := json.Marshal(v); err != nil || leaks(string(out), word) {
			t.Errorf("value %d as JSON: %s, %v", i, out, err)
		}
		zap.New(core).Info("m", zap.Any("value", v))
	}
	for _, entry := range logs.All() {
		if out, err := json.Marshal(entry.ContextMap()); err != nil || leaks(string(out), word) {
			t.Errorf("log: %s, %v", out, err)
		}
	}
	if got := fmt.Sprintf("%s %v", secret, tok); got != "[redacted] [redacted]" {
		t.Errorf("printed %q", got)
	}
}

func leaks(out, word string) bool {
	return strings.Contains(out, word) || strings.Contains(strings.ToLower(out), fmt.Sprintf("%x", word))
}

func FuzzParseSecret(f *testing.F) {
	for _, seed := range []string{"", "pencil", pencilMD5, pencilScram, "SCRAM-SHA-256$", "SCRAM-SHA-256$1:$:", "md5"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		s := ParseSecret(in)
		plain, ok := s.Plain()
		switch s.Kind() {
		case SecretNone:
			if in != "" {
				t.Errorf("%q is no secret", in)
			}
		case SecretPlain:
			if !ok || plain != in || !s.VerifyPlain("u", in) {
				t.Errorf("the plain secret %q is not its own password", in)
			}
		case SecretMD5, SecretScram:
			if ok || !strings.HasPrefix(in, "md5") && !strings.HasPrefix(in, "SCRAM-SHA-256$") {
				t.Errorf("%q is of kind %d", in, s.Kind())
			}
		}
	})
}
