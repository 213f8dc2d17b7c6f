package frontend

import (
	"crypto/tls"
	"net"

	"github.com/pgvalet/pgvalet/backend/evloop"
)

// quietTLS makes a TLS connection, as a server if cert is not nil, that does
// not allocate when it is used, as crypto/tls does whenever it reads.
func quietTLS(conn net.Conn, cert *tls.Certificate) (evloop.TLSConn, error) {
	cfg := &tls.Config{InsecureSkipVerify: true}
	if cert == nil {
		return evloop.NewTransport(conn).Client(cfg)
	}
	cfg.Certificates = []tls.Certificate{*cert}
	return evloop.NewTransport(conn).Server(evloop.ServerTLS(cfg))
}
