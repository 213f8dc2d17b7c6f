package frontend

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"sync"

	"github.com/pgvalet/pgvalet/backend/wire"
)

// cancelKey is what a client shows to cancel its query: the number it knows its
// session by, and the secret that proves it.
type cancelKey struct {
	pid    uint32
	secret []byte
}

// Lengths of the secret. Protocol 3.0 has room for four bytes; 3.2 allows up to
// 256, of which PostgreSQL 18 uses 32 (MAX_CANCEL_KEY_LENGTH in
// src/include/storage/procsignal.h).
const (
	shortSecret = 4
	longSecret  = 32
)

// secretLength is how long a secret the client's protocol has room for.
func secretLength(l *Login) int {
	if l.Protocol > protocol30 {
		return longSecret
	}
	return shortSecret
}

// cancelKeys finds the session that a cancel request means.
type cancelKeys struct {
	mu    sync.Mutex // guards byPID
	byPID map[uint32]keyOwner
}

type keyOwner struct {
	secret    []byte
	session   *session // nil: a client of the console,
	interrupt func()   // which is cancelled by this
}

// add makes up a key for o, with a secret of n bytes.
func (k *cancelKeys) add(o keyOwner, n int) cancelKey {
	secret := make([]byte, n)
	rand.Read(secret) // never fails
	k.mu.Lock()
	defer k.mu.Unlock()
	for {
		var b [4]byte
		rand.Read(b[:])
		pid := binary.BigEndian.Uint32(b[:]) &^ (1 << 31) // clients show it as a signed number
		if _, taken := k.byPID[pid]; pid == 0 || taken {
			continue
		}
		o.secret = secret
		k.byPID[pid] = o
		return cancelKey{pid, secret}
	}
}

func (k *cancelKeys) remove(key cancelKey) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.byPID, key.pid)
}

// find returns whom key belongs to.
func (k *cancelKeys) find(key cancelKey) (keyOwner, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	o, ok := k.byPID[key.pid]
	return o, ok && subtle.ConstantTimeCompare(o.secret, key.secret) == 1
}

// Cancel stops what the client with this key is waiting for, if it is. It
// returns when the request has reached the server.
func (c *Sessions) Cancel(pid uint32, secret []byte) {
	o, ok := c.keys.find(cancelKey{pid, secret})
	if !ok {
		return
	}
	if o.interrupt != nil {
		o.interrupt()
		return
	}
	s := o.session
	done := make(chan struct{})
	if s.w.loop.Post(func(any) { s.cancel(func() { close(done) }) }, nil) {
		<-done
	}
}

// cancel stops what the client is waiting for, and calls done when that is so.
func (s *session) cancel(done func()) {
	switch {
	case s.state == sessionOpen && s.srv != nil && s.srv.TxStatus() == 0:
		s.log().Debug("cancel request")
		s.lease.Cancel(done)
		return
	case s.state == sessionWaiting && s.pool.Leave(&s.waiter):
		// Its request has reached no server: it is answered here.
		s.log().Debug("cancel request while waiting")
		s.state, s.skip = sessionOpen, skipFirst
		s.proceed()
	}
	done()
}

// skipping is how far a cancelled request has been read past.
type skipping uint8

const (
	skipNothing skipping = iota
	skipFirst            // its first message is next
	skipToSync           // it is a batch of the extended protocol
)

// skipRequest deals, in the place of request, with messages of a request that
// was cancelled before it had a server. The client gets what PostgreSQL would
// have said.
func (s *session) skipRequest(typ byte, n int, m []byte) int {
	if s.skip == skipFirst {
		s.w.toClient.SetBuffer(wire.AppendError(s.w.toClient.Buffer(), wire.ErrorResponse, "ERROR", "57014", "canceling statement due to user request"))
		s.skip = skipToSync
		if typ == wire.Query || typ == wire.FunctionCall {
			s.w.toClient.Add(wire.MsgReadyIdle)
			s.skip = skipNothing
			return s.drop(n, m)
		}
	}
	switch typ {
	case wire.Sync:
		s.w.toClient.Add(wire.MsgReadyIdle)
		s.skip = skipNothing
	case wire.Terminate:
		s.flush()
		s.end("client close request")
		return 0
	}
	return s.drop(n, m)
}
