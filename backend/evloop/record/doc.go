// Package record is the record layer of TLS 1.3 (RFC 8446 section 5), for
// connections whose handshake crypto/tls has made.
//
// crypto/tls keeps some 6 KB for each connection, allocates on every read and
// copies what it reads twice. None of that is in its handshake, which stays
// where it is: this package takes the secrets over when the handshake is done,
// and owns no memory of a connection but its keys. The cryptography is that of
// the standard library.
//
// What the peer can make us do is bounded: no more records may carry nothing
// than carry something, but for a few; a KeyUpdate is answered with the next
// bytes of the application, once for all that were asked for; session tickets
// are thrown away. A change_cipher_spec is an error here, as it cannot come
// behind the peer's Finished.
//
// It moves bytes between the buffers of its caller, and knows no socket.
package record
