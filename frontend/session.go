package frontend

import (
	"errors"
	"io"
	"net/netip"
	"strconv"
	"time"
	"unique"

	"go.uber.org/zap"

	"github.com/pgvalet/pgvalet/backend"
	"github.com/pgvalet/pgvalet/backend/evloop"
	"github.com/pgvalet/pgvalet/config"
	"github.com/pgvalet/pgvalet/pool"
)

// session is one client that has logged in: it takes the client's messages to a
// server, and the server's replies to the client. It is on the client's loop
// from beginning to end, and owned by it.
//
// There are many, most of them idle: what only a few need is behind a pointer,
// and fields are as small as they can be, the smallest together.
type session struct {
	// Static after construction.
	id uint64
	*group
	stream    *evloop.Stream
	addr      netip.AddrPort                // not valid: a unix socket
	local     unique.Handle[netip.AddrPort] // clients share the few that there are
	since     moment
	release   func() // gives back the client's place (max_client_conn)
	pid       uint32 // what the client shows to cancel; see cancelKeys
	secretLen uint8  // of the cancel key
	mode      config.PoolMode

	state    sessionState
	skip     skipping // a cancelled request is being read past
	goodbye  bool     // the client has said that it leaves
	notified bool     // the client has been told that it waits
	leftDrop bool     // the bytes of left go nowhere
	place    int32    // in worker.list; owned by the worker
	left     int      // bytes of the message being carried that are still to come

	in       evloop.Inbox
	waiting  *waiting // nil: the client is in no queue
	believes *varSet  // of the tracked parameters

	lease *pool.Lease     // nil: the client has no server
	srv   *backend.Server // lease.Server

	statement map[string]*preparedName
	epoch     uint32 // how many commands that forget names have been sent; it wraps
	forgotten uint32 // … and have been done
	unnamed   *unnamedStatement
	sql       map[string]*backend.SQLStatement // what the client has prepared by SQL

	requestAt moment // when the present wait or query began
	xactAt    moment // when the present lease began
	readyAt   moment // when the server last became ready
}

// sessionState is what a session is doing.
type sessionState uint8

const (
	sessionOpen      sessionState = iota // reading requests
	sessionWaiting                       // in the pool's queue
	sessionSyncing                       // its server is being told the tracked parameters
	sessionLingering                     // it was sent an error and is given time to read it
	sessionClosed
)

// log returns a logger with the client's label. It is made when there is
// something to say: most clients never have a line of their own.
func (s *session) log() *zap.Logger {
	return s.w.sessions.log.Named(clientLabel(s.id, s.database, s.user, s.w.sessions.place(s.addr, s.stream)))
}

// sessionLinger is how long a client that was sent an error has to read it.
const sessionLinger = time.Second

// Readable implements evloop.Handler.
func (s *session) Readable(st *evloop.Stream) {
	if s.place == notAdopted {
		adopt(s)
	}
	for range readsPerTurn {
		switch s.state {
		case sessionOpen:
		case sessionLingering:
			s.discard()
			return
		default:
			st.PauseRead()
			return
		}
		if !s.mayRead() {
			st.PauseRead() // until resume
			return
		}
		kept := s.in.Len()
		data, err := s.in.Fill(st)
		if err != nil {
			if !errors.Is(err, evloop.ErrWouldBlock) {
				s.lost(err)
			}
			return
		}
		s.stats.Received += uint64(len(data) - kept)
		rest := s.requests(data)
		if s.state == sessionClosed {
			s.w.toServer.Flush(nil) // nothing of it may reach anybody else
			s.w.toClient.Flush(nil)
			return
		}
		s.flush()
		if s.srv != nil {
			s.srv.Carried(len(data) - kept)
		}
		if s.state == sessionLingering {
			continue
		}
		s.in.Keep(s.w.loop, rest, s.state != sessionOpen)
	}
	st.Yield()
}

// maxOutstanding bounds how many requests of one client wait for an answer.
const maxOutstanding = 10_000

// mayRead reports whether the client may send more: not while what it has sent
// or is to get piles up here.
func (s *session) mayRead() bool {
	if s.srv == nil {
		return s.stream.Queued() == 0
	}
	return s.srv.Stream.Queued() == 0 && s.srv.Outstanding() < maxOutstanding && s.stream.Queued() < maxQueued
}

// maxQueued is how much may wait to be sent to a client that sends more.
const maxQueued = 64 << 10

// resume reads on, if that was what reading waited for.
func (s *session) resume() {
	if s.state == sessionOpen && s.stream.Paused() && s.mayRead() {
		s.stream.ResumeRead()
	}
}

// readsPerTurn is how many buffers one client may fill in one turn of its loop.
const readsPerTurn = 4

// flush sends what the messages of this turn amount to.
func (s *session) flush() {
	if s.srv != nil {
		s.w.toServer.Flush(s.srv.Stream)
	}
	s.flushClient()
}

func (s *session) flushClient() {
	s.stats.Sent += uint64(s.w.toClient.Len())
	s.w.toClient.Flush(s.stream)
}

// lost ends the session of a client that has hung up.
func (s *session) lost(err error) {
	switch {
	case !errors.Is(err, io.EOF):
		s.end("client connection lost: " + err.Error())
	case s.srv != nil && s.srv.TxStatus() != 'I':
		s.end("client unexpected eof")
	default:
		s.end("client close request")
	}
}

// discard reads what a client that was sent away still sends, so that its
// system does not throw the error message away.
func (s *session) discard() {
	for range readsPerTurn {
		if _, err := s.stream.Read(s.w.loop.Scratch()); err != nil {
			if !errors.Is(err, evloop.ErrWouldBlock) {
				s.close()
			}
			return
		}
	}
	s.stream.Yield()
}

// Writable implements evloop.Handler: the client has taken everything.
func (s *session) Writable(*evloop.Stream) {
	switch {
	case s.state == sessionLingering:
		s.stream.Shutdown()
	case s.srv != nil:
		s.srv.Stream.ResumeRead()
		s.resume()
	default:
		s.resume()
	}
}

// HungUp implements evloop.Handler.
func (s *session) HungUp(_ *evloop.Stream, gone bool) {
	// A client that waits for a server and has closed its side cannot get an
	// answer any more. One whose server is slow to read may only have
	// finished sending: its end is seen when reading goes on.
	if gone || s.state == sessionWaiting || s.state == sessionLingering {
		s.end("client unexpected eof")
	}
}

// Parked implements evloop.Handler: sessions are never parked.
func (s *session) Parked(*evloop.Stream, *evloop.Loop) {}

// need sees to it that the session has a server. If it has to wait for one it
// reports false, and the message at hand is looked at again later.
func (s *session) need() bool {
	if s.srv != nil {
		return true
	}
	s.requestAt = s.w.now()
	l, err := s.acquire()
	switch {
	case err != nil:
		s.refused(err)
		return false
	case l == nil:
		s.state, s.notified = sessionWaiting, false
		s.w.loop.Arm()
		return false
	}
	return s.lend(l)
}

// lend takes a server that is fresh from the pool; it reports false while the
// server must first be told what the client expects of it.
func (s *session) lend(l *pool.Lease) bool {
	now := s.w.now()
	s.lease, s.srv = l, l.Server
	s.srv.Hold(s)
	s.stats.ServerAssignments++
	s.stats.WaitTime += now.sub(s.requestAt)
	s.requestAt, s.xactAt, s.readyAt = now, now, now
	s.w.loop.Arm()
	if s.srv.Vars.Differ(s.believes.vars) {
		s.state = sessionSyncing
		if s.debugging() {
			l.Log().Debug("varcache_apply: " + s.srv.Vars.SetText(s.w.sessions.pools.Tracked(), s.believes.vars))
		}
		s.srv.SetVars(s.believes.vars)
		return false
	}
	return true
}

// granted is called when the pool has a server for the session that waits.
func (s *session) granted(l *pool.Lease) {
	if s.state != sessionWaiting { // it has left meanwhile
		l.Release(s.w.loop)
		return
	}
	s.state = sessionOpen
	if s.lend(l) {
		s.proceed()
	}
}

// proceed looks at the messages that had to wait.
func (s *session) proceed() {
	s.stream.Unpause()
	s.Readable(s.stream)
}

// refused is called when the pool has no server for the session.
func (s *session) refused(err error) {
	if s.state == sessionOpen || s.state == sessionWaiting {
		s.fatal(err)
	}
}

// Forward implements backend.Holder.
func (s *session) Forward(p []byte) {
	if s.state < sessionLingering {
		s.w.toClient.Add(p)
	}
}

// Ready implements backend.Holder.
func (s *session) Ready(tx byte) {
	now := s.w.now()
	s.readyAt = now
	s.stats.Queries++
	s.stats.QueryTime += now.sub(s.requestAt)
	s.requestAt = now
	if tx == 'I' {
		s.stats.Xacts++
		s.stats.XactTime += now.sub(s.xactAt)
		s.xactAt = now
	}
}

// Settle implements backend.Holder.
func (s *session) Settle() {
	s.flushClient()
	if s.state >= sessionLingering {
		return
	}
	srv := s.srv
	if srv.VarsChanged {
		srv.VarsChanged = false
		s.learn()
	}
	s.resume()
	if srv.Stream.Closed() {
		return // Lost follows
	}
	switch tx := srv.TxStatus(); {
	case s.state == sessionSyncing:
		if tx != 0 || !srv.Between() { // or it waits for the client
			s.w.loop.Defer(synced, s)
		}
	case s.mode == config.PoolModeStatement && tx != 0 && tx != 'I':
		s.fatal(errTransactionBlock)
	case s.mode != config.PoolModeSession && (srv.Clean() || srv.InDoubt()):
		s.giveBack()
	case s.stream.Queued() > 0:
		srv.Stream.PauseRead() // until Writable
	}
}

// synced goes on when the server has taken the client's parameters.
func synced(arg any) {
	s := arg.(*session)
	if s.state != sessionSyncing {
		return
	}
	if s.srv.TakeFailure() {
		s.fatal(errServerParameter)
		return
	}
	s.learn() // how the server spells what it was told
	s.state = sessionOpen
	s.proceed()
}

// learn takes over the tracked parameters that the server has reported.
func (s *session) learn() {
	if vars, news := s.believes.vars.Learn(s.srv.Vars); news {
		if s.state == sessionSyncing && s.debugging() {
			s.logCanonical()
		}
		s.believes = s.w.sessions.varSets.of(vars)
	}
}

// giveBack returns a clean server to the pool.
func (s *session) giveBack() {
	l := s.lease
	s.stats.ServerParses += s.srv.TakeParses()
	s.srv.Hold(nil)
	s.lease, s.srv = nil, nil
	s.w.loop.Defer(s.w.giveBack, l)
}

// Sent implements backend.Holder: the server has taken everything.
func (s *session) Sent() {
	s.Settle() // it was not clean before, or reading waited for it
}

// Lost implements backend.Holder.
func (s *session) Lost(err error) {
	midReply := s.srv.MidReply()
	s.lease.Lost(err)
	s.lease, s.srv = nil, nil
	if s.state < sessionLingering {
		s.sendAway(errServerLost, midReply)
	}
}

// end closes the session without a message.
func (s *session) end(why string) {
	if s.state == sessionClosed {
		return
	}
	if s.state != sessionLingering {
		s.depart(why)
	}
	s.close()
}

// fatal tells the client why its session ends, and ends it. The client is given
// a moment to read that.
func (s *session) fatal(err error) {
	if s.state < sessionLingering {
		s.sendAway(err, s.srv != nil && s.srv.MidReply())
	}
}

// sendAway is fatal, for a client that may have got only a part of a message:
// it would take the error for the rest of it.
func (s *session) sendAway(err error, midReply bool) {
	e := clientErrorFor(err)
	s.flushClient()
	if !midReply {
		s.stream.Write(e.Append(nil))
	}
	s.logPoolerError(e, err)
	s.depart(e.Message)
	s.state = sessionLingering
	s.readyAt = s.w.now()
	s.in.Keep(s.w.loop, nil, false)
	s.w.loop.Arm()
	if s.stream.Queued() == 0 {
		s.stream.Shutdown()
	}
	s.stream.ResumeRead()
}

// depart gives back everything but the client's connection.
func (s *session) depart(why string) {
	if s.w.sessions.config().LogDisconnections {
		s.log().Info("closing because: " + why + " (age=" + strconv.Itoa(int(s.w.now().sub(s.since).Seconds())) + "s)")
	}
	if s.state == sessionWaiting {
		s.leaveQueue() // if it is too late, granted releases the lease
	}
	s.state = sessionClosed
	if s.lease != nil {
		s.w.toServer.Flush(s.srv.Stream) // what is expected must also be sent
		s.stats.ServerParses += s.srv.TakeParses()
		s.w.loop.Defer(abandonLease, s)
	}
	for _, n := range s.statement {
		s.w.sessions.pools.Statements().Release(n.stmt)
	}
	s.statement, s.sql = nil, nil
	s.unnamed = nil
	s.w.sessions.leave(s)
	s.release()
}

// abandonLease takes the server from a session that has ended.
func abandonLease(arg any) {
	s := arg.(*session)
	l := s.lease
	if l == nil {
		return // lost meanwhile
	}
	s.lease, s.srv = nil, nil
	reset := s.w.resetQuery(s.mode)
	if l.Server.Clean() {
		l.Return(s.w.loop, reset)
	} else {
		// What a client has asked for before it said goodbye is done, as
		// PostgreSQL does it.
		l.Abandon(s.w.loop, reset, !s.goodbye)
	}
}

// close ends the client's connection.
func (s *session) close() {
	s.state = sessionClosed
	s.stream.Close()
	s.w.remove(s)
}
