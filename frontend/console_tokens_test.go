package frontend

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgvalet/pgvalet/auth"
)

// TestConsoleTokens looks at one token that is there and one for which there are
// no credentials.
func TestConsoleTokens(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMIsecret")
	t.Setenv("AWS_CONFIG_FILE", "/nonexistent")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
	source := auth.NewTokenSource(auth.TokenSourceConfig{})
	defer source.Close()
	key := auth.TokenKey{Host: "db.c0abcdefghij.us-east-1.rds.amazonaws.com", Port: 5432, Region: "us-east-1", User: "app"}
	token, err := source.Token(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	key.Credentials.Profile = "nosuch"
	if _, err := source.Token(t.Context(), key); err == nil {
		t.Fatal("a token of a profile that does not exist")
	}

	f := startConsole(t, consoleConfig(t, noServer), func(f *fixture) { f.tokens = source })
	conn := f.open(t, "watcher", "pgbouncer", pgx.QueryExecModeSimpleProtocol)
	tokens, credentials := must(t, conn, "SHOW TOKENS"), must(t, conn, "SHOW CREDENTIALS")
	for _, want := range []string{"rds|db.c0abcdefghij.us-east-1.rds.amazonaws.com|5432|us-east-1|app|||…MPLE|", "|1|valid|", "|nosuch||", "|0|none|no iam token for app@"} {
		if !strings.Contains(tokens, want) {
			t.Errorf("SHOW TOKENS has no %q:\n%s", want, tokens)
		}
	}
	for _, want := range []string{"the environment (AWS_ACCESS_KEY_ID)|…MPLE|", "|1|0||", "|0|1|aws profile not found|"} {
		if !strings.Contains(credentials, want) {
			t.Errorf("SHOW CREDENTIALS has no %q:\n%s", want, credentials)
		}
	}
	_, signature, _ := strings.Cut(token.Reveal(), "X-Amz-Signature=")
	for _, secret := range []string{"wJalr", "AKIAIOS", signature} {
		if strings.Contains(tokens+credentials, secret) {
			t.Error("a secret is shown")
		}
	}
}
