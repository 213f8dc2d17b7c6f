package main

import (
	"fmt"
	"net"
)

// tomlFormat is the configuration; the arguments are those of stage.toml.
const tomlFormat = `[pgvalet]
listen_addr = "127.0.0.1"
listen_port = %[1]d
unix_socket_dir = "%[2]s"
pool_mode = "transaction"
auth_type = "scram-sha-256"
auth_file = "userlist.txt"
admin_users = ["%[3]s"]
client_tls_sslmode = "require"
client_tls_cert_file = "server.crt"
client_tls_key_file = "server.key"
server_tls_sslmode = "verify-full"
server_tls_ca_file = "rds-ca.pem"

[databases.%[4]s]
host = "127.0.0.1"            # where to dial: the stand-in
port = %[5]s
user = "%[6]s"
server_auth = "iam"
iam_region = "%[7]s"
iam_host = "%[8]s"
iam_port = %[5]s
server_tls_name = "%[8]s"
pool_size = %[9]d
`

// toml returns pgvalet's configuration. The stage's directory needs no quoting:
// its name is our own.
func (s *stage) toml() (string, error) {
	host, port, err := net.SplitHostPort(s.rds.Endpoint())
	if err != nil {
		return "", err
	}
	return fmt.Sprintf(tomlFormat, s.endpoint.port, s.dir, s.endpoint.user,
		database, port, serverUser, s.rds.Region(), host, servers), nil
}
