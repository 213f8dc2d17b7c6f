package main

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// logFile is the path of pgvalet's log.
func (s *stage) logFile() string { return filepath.Join(s.dir, "pgvalet.log") }

// secret is what must not be in a log.
type secret struct{ what, text string }

func (s *stage) secrets() []secret {
	return []secret{
		{"an IAM token", "X-Amz-Signature"},
		{"the secret access key", s.key.Secret},
		{"the session token", s.key.SessionToken},
		{"the client's password", s.endpoint.password},
	}
}

// searchLog returns the number of lines in a log, and an error if there are
// none, or one of the secrets is in them.
func searchLog(log []byte, secrets []secret) (lines int, err error) {
	for _, secret := range secrets {
		if bytes.Contains(log, []byte(secret.text)) {
			return 0, fmt.Errorf("pgvalet's log has %s in it", secret.what)
		}
	}
	lines = bytes.Count(log, []byte("\n"))
	if lines == 0 {
		return 0, errors.New("pgvalet's log is empty")
	}
	return lines, nil
}

// lastLines returns the last n lines of a text.
func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

func indent(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) != "" {
			b.WriteString("    ")
		}
		b.WriteString(line)
	}
	return strings.TrimRight(b.String(), "\n")
}
