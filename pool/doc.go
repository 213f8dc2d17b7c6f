// Package pool decides who may use which server, and when.
//
// A Pool is the servers of one database and user. puddle holds the servers
// themselves: their construction, the idle ones (the one used
// last goes first) and their end. In front of it stands the queue of clients
// that wait, strictly in order of arrival, which puddle has no notion of.
//
// A Lease is one server for as long as somebody has it. It comes back through
// Release, and only a server that is provably clean is lent again: Release asks
// the server itself, so that nobody can return a dirty one.
//
// Between two clients a server may need attention: a transaction to roll back,
// a query to run, a cancel to wait for. The lease's caretaker holds it then.
//
// Pools share limits, those of a database and of a server user. The janitor's
// goroutine is the arbiter between them (see limits and arbitrate): it closes
// idle servers of one pool to make room for the clients of another, and sees to
// it that a pool which is always busy gives way too.
//
// Locks: each Pool has one mutex, held for moments, never while anything
// blocks; Pools.mu may be held when it is taken, never the other way round. A
// pool's mutex is never waited for under another pool's. limits.mu is taken last. A
// server's own state is not under any lock: it belongs to the event loop that
// its stream is on (see package evloop).
package pool
