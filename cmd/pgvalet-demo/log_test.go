package main

import (
	"testing"

	"github.com/pgvalet/pgvalet/backend/backendtest"
)

func TestSearchLog(t *testing.T) {
	s := &stage{
		key:      backendtest.AccessKey{Secret: "first", SessionToken: "second"},
		endpoint: endpoint{password: "third"},
	}
	if n, err := searchLog([]byte("one\ntwo\n"), s.secrets()); n != 2 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	for log, want := range map[string]string{
		"":                            "pgvalet's log is empty",
		"token x?X-Amz-Signature=00a": "pgvalet's log has an IAM token in it",
		"a first\n":                   "pgvalet's log has the secret access key in it",
		"a second\n":                  "pgvalet's log has the session token in it",
		"a third\n":                   "pgvalet's log has the client's password in it",
	} {
		if _, err := searchLog([]byte(log), s.secrets()); err == nil || err.Error() != want {
			t.Errorf("%q: %v", log, err)
		}
	}
}

func TestLastLines(t *testing.T) {
	for _, tt := range []struct {
		text string
		n    int
		want string
	}{
		{"a\nb\nc\n", 2, "    b\n    c"},
		{"a\n\nc", 9, "    a\n\n    c"},
		{"", 3, ""},
	} {
		if got := indent(lastLines(tt.text, tt.n)); got != tt.want {
			t.Errorf("last %d of %q: %q", tt.n, tt.text, got)
		}
	}
}
