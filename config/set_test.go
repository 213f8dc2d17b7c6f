package config

import (
	"testing"
	"time"
)

func TestWith(t *testing.T) {
	c, err := Parse("pgvalet.toml", []byte("[pgvalet]\nlisten_addr = \"*\"\nauth_file = \"users.txt\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ key, text, want string }{
		{"pool_mode", "Statement", "statement"},
		{"default_pool_size", "5", "5"},
		{"server_lifetime", "0.5", "0.5"},
		{"server_lifetime", "2", "2"},
		{"log_stats", "0", "0"},
		{"admin_users", "a, b", "a,b"},
		{"server_check_query", "", ""},
	} {
		n, err := c.With(Assignment{tt.key, tt.text})
		if err != nil {
			t.Errorf("%s = %q: %v", tt.key, tt.text, err)
			continue
		}
		for i, r := range n.Rows() {
			if was := c.Rows()[i].Value; r.Key == tt.key && r.Value != tt.want || r.Key != tt.key && r.Value != was {
				t.Errorf("%s = %q: %s is %q, was %q", tt.key, tt.text, r.Key, r.Value, was)
			}
		}
	}
	for _, a := range []Assignment{
		{"listen_port", "1"}, {"default_pool_size", "many"}, {"default_pool_size", "-1"}, {"log_stats", "2"}, {"Pool_mode", "session"}, {"query_timeout", ""},
	} {
		if _, err := c.With(a); err == nil {
			t.Errorf("%v is accepted", a)
		}
	}
	n, err := c.With(Assignment{"client_tls_sslmode", "require"}, Assignment{"query_timeout", "3"})
	if err != nil || n.QueryTimeout != 3*time.Second || c.QueryTimeout != 0 {
		t.Errorf("query_timeout is %v, and was %v: %v", n.QueryTimeout, c.QueryTimeout, err)
	}
	if err := n.Check(); err == nil {
		t.Error("TLS without a certificate passes the checks")
	}
	if err := c.Check(); err != nil {
		t.Errorf("what was loaded does not pass the checks: %v", err)
	}
}
