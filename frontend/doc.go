// Package frontend is the side of pgvalet that faces applications: it accepts
// clients, authenticates them, carries their sessions and answers the admin
// console.
//
// # From socket to session
//
// An Acceptor runs every new connection on a goroutine of its own, with
// blocking calls: encryption, start-up packet, authentication. What comes out
// is a Login, which AcceptorOptions.Admit takes over; from then on the
// connection belongs to an event loop or to the console, and the goroutine
// ends. Everything up to there is bounded: in time by client_login_timeout, in
// memory by the limits that PostgreSQL has too, in processor time by a fixed
// number of slots that are shared fairly between source addresses.
//
// Who the client is comes from auth_file, or from auth_query, which authQueries
// asks on a server of a pool like any other; what it has to prove comes from
// auth_type, or from the rules of auth_hba_file. What it has shown serves to log
// in to servers as the same user (pool.Credentials).
//
// During a login no byte is read before it is needed, not even under TLS: what
// a client sends behind its last login message is still in the socket, or in
// the tls.Conn, when Admit gets it.
//
// # What an idle client costs
//
// A session keeps nothing of its login, and of itself only what it needs to read
// the next message. What the clients of one user have in common is in a group,
// what they believe of the tracked parameters in a varSet, a place in a queue is
// taken from the worker, and labels and cancel secrets are made when they are
// asked for. That is about 430 bytes of live heap for each plain client, its
// stream and its cancel key included. Resident, with what the process has to
// warm up for the first clients, it is 0.8 KB for each of 10,000 and 1.4 KB for
// each of 3,000; PgBouncer takes 1.0 to 1.1 KB.
//
// # Differences to PgBouncer
//
// Errors carry the SQLSTATE that PostgreSQL uses for the same situation
// instead of 08P01 for all of them; the texts are PgBouncer's. Direct TLS,
// without an SSLRequest, needs ALPN as PostgreSQL 17 demands; PgBouncer lets it
// pass without. SCRAM-SHA-256-PLUS is offered over TLS. A client certificate is
// asked for only if client_tls_ca_file is set. Protocol 3.2 is spoken. The console
// speaks the extended protocol too, so that any driver can use it; docs/console.md
// has all of it.
package frontend
