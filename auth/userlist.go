package auth

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

// Userlist is the content of an auth_file: the users that may log in, and
// their secrets. It is immutable. A nil Userlist has nobody in it.
type Userlist struct {
	secrets map[string]Secret
}

// LoadUserlist reads the file at path with ParseUserlist.
func LoadUserlist(path string) (*Userlist, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return ParseUserlist(f, path)
}

// ParseUserlist reads PgBouncer's auth_file grammar: one user per line,
//
//	"name" "secret" anything
//
// where a quote inside quotes is doubled, empty lines and lines that begin
// with ";" count for nothing, and the last of several lines for one user
// holds. Unlike PgBouncer, which keeps what it read before a broken line, a
// broken line refuses the whole file, and a quoted text ends on its own line,
// so that a forgotten quote does not swallow the next user. Errors name the
// line after name, which is the file's, and quote nothing of it.
func ParseUserlist(r io.Reader, name string) (*Userlist, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	u := &Userlist{secrets: make(map[string]Secret)}
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == ';' {
			continue
		}
		user, secret, problem := parseUser(line)
		if problem != "" {
			return nil, fmt.Errorf("%s:%d: %s", name, number, problem)
		}
		u.secrets[user] = ParseSecret(secret)
	}
	return u, nil
}

// parseUser splits one line; a problem that is not empty says what is wrong.
func parseUser(line string) (user, secret, problem string) {
	if line[0] != '"' {
		return "", "", `expected a user name in double quotes`
	}
	user, rest, ok := unquote(line[1:])
	switch {
	case !ok:
		return "", "", `the user name has no closing quote`
	case user == "":
		return "", "", `the user name is empty`
	}
	// PgBouncer skips whatever stands between the two.
	_, rest, ok = strings.Cut(rest, `"`)
	if !ok {
		return "", "", `expected a password in double quotes after the user name`
	}
	secret, _, ok = unquote(rest)
	if !ok {
		return "", "", `the password has no closing quote`
	}
	return user, secret, ""
}

// unquote takes what follows an opening quote and returns the text up to the
// closing one, and what stands behind that.
func unquote(s string) (text, rest string, ok bool) {
	for i := 0; i < len(s); i++ {
		if s[i] != '"' {
			continue
		}
		if i+1 < len(s) && s[i+1] == '"' {
			i++
			continue
		}
		return strings.ReplaceAll(s[:i], `""`, `"`), s[i+1:], true
	}
	return "", "", false
}

// With returns the list with more users, who have no password: they can log in
// only where none is asked for. Who is in the list keeps his secret.
func (u *Userlist) With(names []string) *Userlist {
	more := &Userlist{secrets: make(map[string]Secret)}
	for _, name := range names {
		more.secrets[name] = ParseSecret("")
	}
	if u != nil {
		maps.Copy(more.secrets, u.secrets)
	}
	return more
}

// Lookup returns the secret of user and whether the list has user at all.
func (u *Userlist) Lookup(user string) (Secret, bool) {
	if u == nil {
		return Secret{}, false
	}
	s, ok := u.secrets[user]
	return s, ok
}

// Names returns the names of all users, in order.
func (u *Userlist) Names() []string {
	if u == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(u.secrets))
}

// Len returns the number of users.
func (u *Userlist) Len() int {
	if u == nil {
		return 0
	}
	return len(u.secrets)
}
