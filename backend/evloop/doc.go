// Package evloop runs connections on event loops: a few goroutines, each with
// its own epoll or kqueue instance, that move bytes without ever blocking.
//
// A connection begins its life blocking, as a Transport on a login goroutine:
// TLS handshakes and authentication are easiest to write there. Once it is
// ready to carry traffic it is detached from the Go runtime's poller and
// becomes a Stream, which belongs to one Loop at a time.
//
// # Ownership
//
// Every Stream belongs to the goroutine of the loop it is attached to; its
// methods are called there and nowhere else, except where they say so. A
// Stream that nobody uses may be taken over by another loop (Park, Unpark); the
// caller brings the mutual exclusion.
//
// # Buffers
//
// A Stream owns no read buffer. A loop reads into one large scratch buffer and
// its streams keep only what cannot go on yet. Outgoing bytes that the socket
// does not take are queued; the owner of the other side is expected to stop
// reading until Writable.
//
// # TLS
//
// crypto/tls makes the handshakes. Behind one for TLS 1.3 the package record
// takes over, during the login (secureConn) and on a loop (tls13); TLS 1.2,
// ChaCha20 and FIPS 140 mode stay with crypto/tls.
//
// crypto/tls takes a net.Error whose Temporary method reports true as "no bytes
// yet": the record that has arrived in part stays in its buffer and Read can be
// called again. A failed write on the other hand would corrupt the connection,
// so writes never fail for want of room. TestTLSReadResumes pins this.
//
// This package is a leaf: it knows nothing of PostgreSQL.
package evloop
