// Package backendtest starts what pgvalet talks to: a real PostgreSQL, a
// stand-in for Amazon RDS with IAM authentication, and a scripted PostgreSQL
// server for what a real one will not do. It serves tests, the benchmarks and
// the demo, in the tradition of net/http/httptest, and is never part of the
// path that a production binary takes.
//
// It imports nothing of pgvalet on purpose. The far end of a test must not
// share code with the near end: a mistake made twice in the same way would
// otherwise look like agreement. That is why the signature of an IAM token is
// recomputed here from its specification, without the AWS SDK.
//
// Everything listens on loopback addresses and unix sockets only.
package backendtest
