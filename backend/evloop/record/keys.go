package record

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/fips140"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
)

// Secrets takes the traffic secrets of one connection from its handshake, as
// the KeyLogWriter of its tls.Config. The zero value is ready.
type Secrets struct {
	client, server *secret
	n              int // length of each
}

// secret is a traffic secret: as many bytes as the hash of the suite has. It is
// held by a pointer: where fmt does not call Format, which is inside of a struct
// that is printed, it prints an address.
type secret [sha512.Size384]byte

// Write implements io.Writer for a line in the format of SSLKEYLOGFILE (RFC
// 9850): a label, the client's random and a secret, in hexadecimal.
func (s *Secrets) Write(line []byte) (int, error) {
	label, rest, _ := bytes.Cut(line, []byte(" "))
	_, digits, _ := bytes.Cut(bytes.TrimSpace(rest), []byte(" "))
	var into **secret
	switch string(label) {
	case "CLIENT_TRAFFIC_SECRET_0":
		into = &s.client
	case "SERVER_TRAFFIC_SECRET_0":
		into = &s.server
	default:
		return len(line), nil
	}
	b := new(secret)
	if s.n = hex.DecodedLen(len(digits)); s.n > len(b) {
		return 0, errors.New("traffic secret is too long")
	}
	if _, err := hex.Decode(b[:], digits); err != nil {
		return 0, errors.New("traffic secret is not in hexadecimal") // and not the secret itself
	}
	*into = b
	return len(line), nil
}

// Format keeps secrets out of logs.
func (s *Secrets) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[redacted]") }

// suite is a cipher suite of TLS 1.3.
type suite struct {
	hash   crypto.Hash
	new    func() hash.Hash
	keyLen int
}

// suiteByID returns what this package can do: the suites that crypto/tls
// prefers on a machine with AES instructions.
func suiteByID(id uint16) *suite {
	switch id {
	case tls.TLS_AES_128_GCM_SHA256:
		return &aes128
	case tls.TLS_AES_256_GCM_SHA384:
		return &aes256
	}
	return nil
}

var (
	aes128 = suite{crypto.SHA256, sha256.New, 16}
	aes256 = suite{crypto.SHA384, sha512.New384, 32}
)

// Supported reports whether a connection can go on with this package: TLS 1.3
// with AES. In FIPS 140 mode it cannot: there a nonce must come from inside of
// the certified module, as that of crypto/tls does.
func Supported(c tls.ConnectionState) bool {
	return c.Version == tls.VersionTLS13 && suiteByID(c.CipherSuite) != nil && !fips140.Enabled()
}

// half is one direction.
type half struct {
	aead   cipher.AEAD
	secret *secret
	seq    uint64
	iv     [12]byte
	nonce  [12]byte // scratch
}

// rekey makes the keys of a traffic secret (RFC 8446 section 7.3).
func (h *half) rekey(s *suite, from *secret) error {
	key, err := expandLabel(s, from, "key", s.keyLen)
	if err != nil {
		return err
	}
	iv, err := expandLabel(s, from, "iv", len(h.iv))
	if err != nil {
		return err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return err
	}
	if h.aead, err = cipher.NewGCM(block); err != nil {
		return err
	}
	h.secret, h.seq = from, 0
	copy(h.iv[:], iv)
	return nil
}

// update goes to the next traffic secret (RFC 8446 section 7.2).
func (h *half) update(s *suite) error {
	next, err := expandLabel(s, h.secret, "traffic upd", s.hash.Size())
	if err != nil {
		return err
	}
	to := new(secret)
	copy(to[:], next)
	return h.rekey(s, to)
}

// next returns the nonce of the next record (RFC 8446 section 5.3).
func (h *half) next() []byte {
	h.nonce = h.iv
	n := binary.BigEndian.Uint64(h.nonce[4:])
	binary.BigEndian.PutUint64(h.nonce[4:], n^h.seq)
	h.seq++
	return h.nonce[:]
}

// expandLabel is HKDF-Expand-Label with an empty context (RFC 8446 section 7.1).
func expandLabel(s *suite, from *secret, label string, n int) ([]byte, error) {
	info := binary.BigEndian.AppendUint16(nil, uint16(n))
	info = append(info, byte(len("tls13 ")+len(label)))
	info = append(info, "tls13 "...)
	info = append(info, label...)
	info = append(info, 0)
	key, err := hkdf.Expand(s.new, from[:s.hash.Size()], string(info), n)
	if err != nil {
		return nil, fmt.Errorf("traffic key: %w", err)
	}
	return key, nil
}
