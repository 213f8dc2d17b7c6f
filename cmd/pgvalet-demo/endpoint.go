package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// endpoint is where and how clients log in to pgvalet.
type endpoint struct {
	port     int
	user     string
	password string
	caFile   string // of the authority that pgvalet's certificate is from
}

// conninfo returns libpq's connection string for db, without the password.
func (e endpoint) conninfo(db string) string {
	// By name: libpq before 15 finds no address in a certificate.
	return fmt.Sprintf("host=localhost port=%d user=%s dbname=%s sslmode=verify-full sslrootcert=%s", e.port, e.user, db, e.caFile)
}

// connect logs in to db. The caller closes the connection.
func (e endpoint) connect(ctx context.Context, db string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(e.conninfo(db))
	if err != nil {
		return nil, err
	}
	config.Password = e.password
	return pgx.ConnectConfig(ctx, config)
}
