package auth

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
)

func TestParseUserlist(t *testing.T) {
	for name, test := range map[string]struct {
		in   string
		want map[string]string
	}{
		"empty":          {"", nil},
		"comments":       {"; \"a\" \"b\"\n\n   ;x\n\t\r\n", nil},
		"one":            {`"app" "s3cret"`, map[string]string{"app": "s3cret"}},
		"crlf":           {"\"a\" \"1\"\r\n\"b\" \"2\"\r\n", map[string]string{"a": "1", "b": "2"}},
		"indented":       {"  \"a\"\t\"1\"", map[string]string{"a": "1"}},
		"rest":           {`"a" "1" "" anything ; "b" "2"`, map[string]string{"a": "1"}},
		"between":        {`"a", "1"`, map[string]string{"a": "1"}},
		"doubled quotes": {`"a""b" """x""y"""`, map[string]string{`a"b`: `"x"y"`}},
		"no password":    {`"a" ""`, map[string]string{"a": ""}},
		"spaces":         {`" a " " 1 "`, map[string]string{" a ": " 1 "}},
		"last holds":     {"\"a\" \"1\"\n\"a\" \"2\"", map[string]string{"a": "2"}},
		"semicolon":      {`"a" "1;2"`, map[string]string{"a": "1;2"}},
		"utf-8":          {`"usér" "pässword"`, map[string]string{"usér": "pässword"}},
		"long":           {`"a" "` + strings.Repeat("x", 65530) + `"`, map[string]string{"a": strings.Repeat("x", 65530)}},
	} {
		u, err := ParseUserlist(strings.NewReader(test.in), "f")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if u.Len() != len(test.want) {
			t.Errorf("%s: %d users, want %d", name, u.Len(), len(test.want))
		}
		for user, want := range test.want {
			s, ok := u.Lookup(user)
			if !ok || s.Kind() == SecretNone != (want == "") || want != "" && !s.VerifyPlain(user, want) {
				t.Errorf("%s: user %q does not have the password %q", name, user, want)
			}
		}
		if _, ok := u.Lookup("nobody"); ok {
			t.Errorf("%s: nobody is known", name)
		}
	}
}

func TestParseUserlistRefuses(t *testing.T) {
	for in, want := range map[string]string{
		"app s3cret":            `users.txt:3: expected a user name in double quotes`,
		`"app`:                  `users.txt:3: the user name has no closing quote`,
		`"app" s3cret`:          `users.txt:3: expected a password in double quotes after the user name`,
		`"app"`:                 `users.txt:3: expected a password in double quotes after the user name`,
		`"app" "s3cret`:         `users.txt:3: the password has no closing quote`,
		`"app" "s3cret""`:       `users.txt:3: the password has no closing quote`,
		"\"app\" \"s3cret\nx\"": `users.txt:3: the password has no closing quote`,
		`"app""s3cret"`:         `users.txt:3: expected a password in double quotes after the user name`,
		`"" "s3cret"`:           `users.txt:3: the user name is empty`,
	} {
		u, err := ParseUserlist(strings.NewReader("\"good\" \"x\"\n; comment\n"+in+"\n\"after\" \"y\"\n"), "users.txt")
		if u != nil || err == nil || err.Error() != want {
			t.Errorf("%q: error %v, want %s", in, err, want)
		}
	}
	broken := errors.New("disk on fire")
	if _, err := ParseUserlist(iotest.ErrReader(broken), "users.txt"); !errors.Is(err, broken) {
		t.Errorf("error %v, want %v", err, broken)
	}
}

func TestLoadUserlist(t *testing.T) {
	path := filepath.Join(t.TempDir(), "userlist.txt")
	if _, err := LoadUserlist(path); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v, want one that names %s", err, path)
	}
	if err := os.WriteFile(path, []byte("\"a\" \""+pencilMD5+"\"\nbroken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadUserlist(path); err == nil || !strings.HasPrefix(err.Error(), path+":2: ") {
		t.Errorf("error %v, want one that begins with %s:2", err, path)
	}
	if err := os.WriteFile(path, []byte("\"user\" \""+pencilMD5+"\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	u, err := LoadUserlist(path)
	if err != nil {
		t.Fatal(err)
	}
	if s, _ := u.Lookup("user"); !s.VerifyPlain("user", "pencil") {
		t.Error("the user's password does not match")
	}
}

func TestNilUserlist(t *testing.T) {
	var u *Userlist
	if _, ok := u.Lookup("a"); ok || u.Len() != 0 {
		t.Error("a nil list has users")
	}
}

func FuzzParseUserlist(f *testing.F) {
	for _, seed := range []string{"", `"a" "b"`, "\"a\" \"b\"\n;c\n\"d\"\"e\" \"\"\"\"", `"a" "b`, "\r\n\"a\" \"\" x", `a b`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		u, err := ParseUserlist(bytes.NewReader(in), "f")
		if (u == nil) == (err == nil) {
			t.Fatalf("list %v and error %v", u, err)
		}
		if err != nil {
			if !strings.HasPrefix(err.Error(), "f:") {
				t.Errorf("error %v names no line", err)
			}
			return
		}
		// Written again, the users are the same.
		var again strings.Builder
		quote := func(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }
		for user, s := range u.secrets {
			password, _ := s.Plain()
			again.WriteString(quote(user) + " " + quote(password) + "\n")
		}
		u2, err := ParseUserlist(strings.NewReader(again.String()), "f")
		if err != nil || u2.Len() != u.Len() {
			t.Fatalf("%q: %v", again.String(), err)
		}
		for user, s := range u.secrets {
			want, _ := s.Plain()
			s2, ok := u2.Lookup(user)
			if got, _ := s2.Plain(); !ok || got != want {
				t.Errorf("user %q: %q became %q", user, want, got)
			}
		}
	})
}

func TestUserlistLongPassword(t *testing.T) {
	long := strings.Repeat("x", 65530)
	u, err := ParseUserlist(strings.NewReader(`"app" "`+long+"\"\n"), "users")
	if err != nil {
		t.Fatal(err)
	}
	if secret, ok := u.Lookup("app"); !ok || !secret.VerifyPlain("app", long) || secret.VerifyPlain("app", long[1:]) {
		t.Error("a password of 65530 bytes is not what it was")
	}
}

func TestUserlistWith(t *testing.T) {
	u, err := ParseUserlist(strings.NewReader(`"app" "secret"`), "users")
	if err != nil {
		t.Fatal(err)
	}
	more := u.With([]string{"app", "other"})
	if s, ok := more.Lookup("app"); !ok || !s.VerifyPlain("app", "secret") {
		t.Error("app has lost its password")
	}
	if s, ok := more.Lookup("other"); !ok || s.VerifyPlain("other", "") || s.VerifyMD5("other", [4]byte{}, "") {
		t.Error("other is not a user without a password")
	}
	if _, ok := u.Lookup("other"); ok || (*Userlist)(nil).With([]string{"x"}).Len() != 1 {
		t.Error("With changes the list, or does nothing for none")
	}
}
