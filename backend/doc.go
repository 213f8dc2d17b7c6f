// Package backend is pgvalet's side towards PostgreSQL: it opens connections
// and knows the state of the open ones.
//
// Everything up to the first ReadyForQuery (resolving the name, TCP, TLS,
// authentication, a database's connect_query) runs on the caller's goroutine
// with blocking calls: see Connect. It is slow, rare and easier to read that
// way. An open connection is then detached and lives on an event loop.
//
// # Security
//
// What sslmode means is what it means to libpq, see Target.SSLMode. An IAM
// token is a bearer secret that crosses the wire as it is, so it is sent only
// over TLS whose certificate was verified, and only to a server that asks for a
// cleartext password; a server that asks for anything else has not been told to
// use IAM for the role. A password is sent in cleartext to a server that asks
// for it over TLS; without TLS only with the sslmodes disable, allow and
// prefer, whose user has said that the network is trusted.
//
// Every byte a server sends before the login is complete is bounded in number
// and in time. Nothing is read beyond the message that is being waited for.
package backend
