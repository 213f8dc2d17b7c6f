package main

import (
	"fmt"
	"strconv"
	"strings"
)

// What all poolers are configured with.
const (
	databaseName  = "bench"
	userName      = "bench"
	poolSize      = 20
	maxClientConn = 12000
)

// setting is one line of a pooler's configuration. pgvalet's names are
// PgBouncer's, so that the same list configures both.
type setting struct {
	name  string
	value any // string, int or bool
}

// poolerSettings are what a pooler is told beside its port: all else is the
// product's default.
func poolerSettings(variant string) []setting {
	s := []setting{
		{"listen_addr", "127.0.0.1"},
		{"unix_socket_dir", ""},
		{"pool_mode", "transaction"},
		{"default_pool_size", poolSize},
		{"max_client_conn", maxClientConn},
		{"auth_type", "scram-sha-256"},
		{"auth_file", "userlist.txt"},
		{"max_prepared_statements", 200},
		{"ignore_startup_parameters", "extra_float_digits"},
		{"log_connections", 0},
		{"log_disconnections", 0},
	}
	if variant != tlsVariant {
		return append(s, setting{"client_tls_sslmode", "disable"}, setting{"server_tls_sslmode", "disable"})
	}
	return append(s,
		setting{"client_tls_sslmode", "require"},
		setting{"client_tls_cert_file", certFile},
		setting{"client_tls_key_file", keyFile},
		setting{"server_tls_sslmode", "verify-ca"},
		setting{"server_tls_ca_file", "ca.crt"})
}

// databaseSettings are the entry of the one database.
func databaseSettings(port int, password string) []setting {
	return []setting{
		{"host", "127.0.0.1"},
		{"port", port},
		{"user", userName},
		{"password", password},
	}
}

// pgvaletConfig writes TOML.
func pgvaletConfig(pooler, database []setting) string {
	var b strings.Builder
	write := func(section string, settings []setting) {
		fmt.Fprintf(&b, "[%s]\n", section)
		for _, s := range settings {
			if text, ok := s.value.(string); ok {
				fmt.Fprintf(&b, "%s = %s\n", s.name, strconv.Quote(text))
			} else {
				fmt.Fprintf(&b, "%s = %v\n", s.name, s.value)
			}
		}
	}
	write("pgvalet", pooler)
	b.WriteByte('\n')
	write("databases."+databaseName, database)
	return b.String()
}

// pgbouncerConfig writes an ini file. No value here has a space or a quote.
func pgbouncerConfig(pooler, database []setting) string {
	var b strings.Builder
	fmt.Fprintf(&b, "[databases]\n%s =", databaseName)
	for _, s := range database {
		fmt.Fprintf(&b, " %s=%v", s.name, s.value)
	}
	b.WriteString("\n\n[pgbouncer]\n")
	for _, s := range pooler {
		fmt.Fprintf(&b, "%s = %v\n", s.name, s.value)
	}
	return b.String()
}
