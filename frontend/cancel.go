package frontend

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"slices"
	"sync"

	"github.com/pgvalet/pgvalet/backend/wire"
)

// A client that wants to cancel its query shows a number, which its session is
// known by, and a secret, which proves that it may.

// Lengths of the secret. Protocol 3.0 has room for four bytes; 3.2 allows up to
// 256, of which PostgreSQL 18 uses 32 (MAX_CANCEL_KEY_LENGTH in
// src/include/storage/procsignal.h).
const (
	shortSecret = 4
	longSecret  = sha256.Size
)

// secretLength is how long a secret the client's protocol, and those that may
// have to forward it, have room for.
func (k *cancelKeys) secretLength(l *Login) int {
	if l.Protocol > protocol30 && k.peer == 0 {
		return longSecret
	}
	return shortSecret
}

// cancelKeys finds the client that a cancel request means. A secret is not kept
// but derived when it is asked for: that is rare, and there are many clients.
type cancelKeys struct {
	// Static after init.
	master [sha256.Size]byte // what the secrets come from
	peer   int               // peer_id; see peers.go

	mu    sync.Mutex // guards the maps
	byPID map[uint32]keyOwner
	// Owners whose number somebody in byPID has. Numbers that hold a peer_id
	// are few, so then clients share them, and the secret tells who is meant.
	more map[uint32][]keyOwner
}

// manyPeerClients is how many clients of a process with a peer_id have a number
// of their own, out of the 32,768 that there are.
const manyPeerClients = 16384

// keyOwner is a client of a database or of the console.
type keyOwner interface {
	// keyTraits returns the client's id, which no other client ever has, and
	// how long its secret is.
	keyTraits() (id uint64, n int)
	// interrupt stops what the client is waiting for, if it is. It returns
	// when the request has reached the server, or why it has not.
	interrupt() error
}

func (k *cancelKeys) init(peer int) {
	rand.Read(k.master[:]) // never fails
	k.peer = peer
	k.byPID = make(map[uint32]keyOwner)
	k.more = make(map[uint32][]keyOwner)
}

// add makes up a number for o.
func (k *cancelKeys) add(o keyOwner) (pid uint32) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for {
		var b [4]byte
		rand.Read(b[:])
		pid := binary.BigEndian.Uint32(b[:])
		if k.peer != 0 {
			pid = peerPID(pid, k.peer)
		}
		pid &^= 1 << 31 // clients show it as a signed number
		_, taken := k.byPID[pid]
		switch {
		case pid == 0:
		case !taken:
			k.byPID[pid] = o
			return pid
		case k.peer != 0 && len(k.byPID) >= manyPeerClients:
			k.more[pid] = append(k.more[pid], o)
			return pid
		}
	}
}

// secretOf returns the secret that o has with the number pid.
func (k *cancelKeys) secretOf(pid uint32, o keyOwner) []byte {
	id, n := o.keyTraits()
	mac := hmac.New(sha256.New, k.master[:])
	mac.Write(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, pid), id))
	secret := mac.Sum(nil)[:n]
	if k.peer != 0 {
		secret[n-1] |= peerHops
	}
	return secret
}

// remove undoes add.
func (k *cancelKeys) remove(pid uint32, o keyOwner) {
	k.mu.Lock()
	defer k.mu.Unlock()
	others := k.more[pid]
	switch {
	case k.byPID[pid] != o:
		others = slices.DeleteFunc(others, func(other keyOwner) bool { return other == o })
	case len(others) == 0:
		delete(k.byPID, pid)
		return
	default:
		k.byPID[pid], others = others[0], others[1:]
	}
	if len(others) == 0 {
		delete(k.more, pid)
	} else {
		k.more[pid] = others
	}
}

// find returns whom a key belongs to, nil for nobody.
func (k *cancelKeys) find(pid uint32, secret []byte) keyOwner {
	if k.peer != 0 && len(secret) == shortSecret {
		secret = slices.Clone(secret)
		secret[shortSecret-1] |= peerBits // other peers may have taken from it
	}
	k.mu.Lock()
	first, others := k.byPID[pid], slices.Clone(k.more[pid])
	k.mu.Unlock()
	if first == nil {
		return nil
	}
	for _, o := range append([]keyOwner{first}, others...) {
		if subtle.ConstantTimeCompare(k.secretOf(pid, o), secret) == 1 {
			return o
		}
	}
	return nil
}

// Cancel stops what the client with this key is waiting for, if it is; a client
// of a peer is left to the peer. It returns when the request has reached the
// server, or ctx ends; the error, if that is of interest, is why it has not.
func (c *Sessions) Cancel(ctx context.Context, pid uint32, secret []byte) error {
	if o := c.keys.find(pid, secret); o != nil {
		return o.interrupt()
	}
	return c.peers.forward(ctx, pid, secret)
}

func (s *session) keyTraits() (uint64, int) { return s.id, int(s.secretLen) }

func (s *session) interrupt() error {
	done := make(chan error, 1)
	if s.w.loop.Post(func(any) { s.cancel(func(err error) { done <- err }) }, nil) {
		return <-done
	}
	return nil
}

// cancel stops what the client is waiting for, and calls done when that is so.
func (s *session) cancel(done func(error)) {
	switch {
	case s.state == sessionOpen && s.srv != nil && s.srv.TxStatus() == 0:
		s.log().Debug("cancel request")
		s.lease.Cancel(done)
		return
	case s.state == sessionWaiting && s.leaveQueue():
		// Its request has reached no server: it is answered here.
		s.log().Debug("cancel request while waiting")
		s.state, s.skip = sessionOpen, skipFirst
		s.proceed()
	}
	done(nil)
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
