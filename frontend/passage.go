package frontend

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"strconv"

	"go.uber.org/zap"

	"github.com/pgvalet/pgvalet/backend"
	"github.com/pgvalet/pgvalet/backend/evloop"
	"github.com/pgvalet/pgvalet/config"
	"github.com/pgvalet/pgvalet/pool"
)

// passage is a client in passthrough mode: its bytes go to a server of its own as
// they are, and those of the server to it. Whatever is said, TLS, tokens,
// channel binding, is between the two. It is on one loop, and owned by it.
//
// The bytes are copied: PostgreSQL and its clients send 8 KB at a time, and
// splice(2) saves nothing with such pieces, or costs more.
type passage struct {
	// Static after construction.
	id      uint64
	w       *worker
	pool    *pool.Pool
	stats   *pool.Stats
	addr    netip.AddrPort
	local   netip.AddrPort
	since   moment
	release func() // gives back the client's place
	left    func() // gives back the server's

	client, server passageEnd
	why            string // what ends it, "" while nothing does
	closed         bool
}

// passageEnd is one of the two connections.
type passageEnd struct {
	of      *passage
	stream  *evloop.Stream
	other   *passageEnd
	carried *uint64 // what is counted of the bytes that come from here
	ended   bool    // nothing more comes from here
	gone    bool    // nothing that is written here arrives
}

// PassThrough connects a client with a server of its own. ahead are bytes of the
// client that have been read already; with askTLS it has been told to begin TLS,
// and the server is asked for it first. On error the caller still owns the
// client's connection.
func (c *Sessions) PassThrough(ctx context.Context, l *Login, ahead []byte, askTLS bool) error {
	p, server, left, err := c.pools.PassThrough(ctx, l.Database.Name, l.ServerName, askTLS)
	if err != nil {
		return err
	}
	w := c.workers[int(c.turn.Add(1))%len(c.workers)]
	t := &passage{
		id: l.ID, w: w, pool: p, stats: p.Stats(w.loop), addr: addrPortOf(l.Addr), local: addrPortOf(l.LocalAddr),
		since: c.moment(l.Since), release: l.Release, left: left,
	}
	t.client = passageEnd{of: t, other: &t.server, carried: &t.stats.Received}
	t.server = passageEnd{of: t, other: &t.client, carried: &t.stats.Sent}
	if deadline, ok := ctx.Deadline(); ok {
		server.SetDeadline(deadline)
	}
	if _, err = server.Write(ahead); err == nil {
		t.server.stream, err = server.Detach(nil)
	} else {
		server.Close()
	}
	if err != nil {
		left()
		return err
	}
	if t.client.stream, err = l.Transport.Detach(nil); err == nil && w.loop.Post(beginPassage, t) {
		return nil
	}
	t.server.stream.Close()
	if t.client.stream != nil {
		t.client.stream.Close()
	}
	left()
	if err == nil {
		err = pool.ErrShuttingDown
	}
	return err
}

// beginPassage runs on the passage's loop.
func beginPassage(arg any) {
	t := arg.(*passage)
	t.w.passages[t] = struct{}{}
	t.w.sessions.count.Add(1)
	t.stats.ClientLogins++
	// Whoever has ended all passages just before has not seen this one.
	err := t.pool.BeginPassage()
	for _, e := range []*passageEnd{&t.client, &t.server} {
		if err == nil {
			err = t.w.loop.Attach(e.stream, e)
		}
	}
	if err != nil {
		t.end(err.Error())
	}
}

// Readable implements evloop.Handler.
func (e *passageEnd) Readable(s *evloop.Stream) {
	buf := e.of.w.loop.Scratch()
	for range readsPerTurn {
		n, err := s.Read(buf)
		if err != nil {
			if !errors.Is(err, evloop.ErrWouldBlock) {
				e.over(err)
			}
			return
		}
		*e.carried += uint64(n)
		if !e.other.gone {
			e.other.stream.Write(buf[:n])
			if e.other.stream.Queued() > 0 {
				s.PauseRead() // until Writable
				return
			}
		}
		if n < len(buf) {
			return
		}
	}
	s.Yield()
}

// over is called when nothing more comes from one end. What has come goes to the
// other, which may still have something to say to it.
func (e *passageEnd) over(err error) {
	t := e.of
	if e.ended {
		return
	}
	e.ended = true
	e.stream.PauseRead()
	switch {
	case !errors.Is(err, io.EOF):
		t.why = "connection lost: " + err.Error()
		e.lost()
	case t.why == "":
		t.why = "client close request"
	}
	if !t.closed && e.other.stream.Queued() == 0 {
		e.finish()
	}
}

// finish tells the other end, which has got everything, that no more will come.
// If what it says is of no use any more it has a moment to take that in: a
// connection that is closed at once may throw away what is yet to be read.
func (e *passageEnd) finish() {
	t := e.of
	if e.other.ended {
		t.end(t.why)
		return
	}
	e.other.stream.Shutdown()
	if e.gone || e == &t.server { // PostgreSQL does not listen to whom it has left
		t.part()
	}
}

// lost notes that what is written to one end does not arrive any more. What the
// other says is dropped from now on: it must not be stuck in saying it.
func (e *passageEnd) lost() {
	e.gone = true
	if e.other.gone {
		e.of.end(e.of.why)
	} else if !e.other.ended {
		e.other.stream.ResumeRead()
	}
}

// part ends the passage in a while, if the end that has been told does not.
func (t *passage) part() {
	if _, ok := t.w.parting[t]; !ok {
		t.w.parting[t] = t.w.now()
		t.w.loop.Arm()
	}
}

// Writable implements evloop.Handler: this end has taken everything.
func (e *passageEnd) Writable(*evloop.Stream) {
	if e.other.ended {
		e.other.finish()
		return
	}
	e.other.stream.ResumeRead()
}

// HungUp implements evloop.Handler. An end that has only finished sending is
// seen when reading goes on; of one that is gone, what it said last is to be read.
func (e *passageEnd) HungUp(_ *evloop.Stream, gone bool) {
	if !gone {
		return
	}
	if e.of.why == "" {
		e.of.why = "connection lost"
	}
	e.lost()
	switch {
	case e.of.closed:
	case e.other.stream.Queued() > 0: // Writable goes on
	case e.ended:
		e.finish()
	default:
		e.stream.ResumeRead()
	}
}

// Parked implements evloop.Handler: passages are never parked.
func (e *passageEnd) Parked(*evloop.Stream, *evloop.Loop) {}

// end closes both connections.
func (t *passage) end(why string) {
	if t.closed {
		return
	}
	t.closed = true
	c := t.w.sessions
	if c.config().LogDisconnections {
		c.log.Named(t.label()).Info("closing because: " + why + " (age=" + strconv.Itoa(int(t.w.now().sub(t.since).Seconds())) + "s)")
	}
	t.client.stream.Close()
	t.server.stream.Close()
	delete(t.w.passages, t)
	delete(t.w.parting, t)
	c.count.Add(-1)
	t.pool.RemoveClient()
	t.left()
	t.release()
}

func (t *passage) label() string {
	return clientLabel(t.id, t.pool.Database, "", t.w.sessions.place(t.addr, t.client.stream))
}

// info is what SHOW CLIENTS shows: who the user is, nobody has told us.
func (t *passage) info() ClientInfo {
	return ClientInfo{ConnInfo: pool.ConnInfo{
		ID: t.id, Database: t.pool.Database, State: "active", Addr: netAddrOf(t.addr), LocalAddr: netAddrOf(t.local),
		ConnectedAt: t.w.timeOf(t.since), RequestAt: t.w.timeOf(t.since),
		Vars: make(backend.Vars, len(t.w.sessions.pools.Tracked().Names())),
		FD:   t.client.stream.FD(), Queued: t.client.stream.Queued(),
	}}
}

// eachPassage runs fn for every passage, on its loop.
func (c *Sessions) eachPassage(fn func(*passage)) {
	for _, w := range c.workers {
		w.loop.Call(func() {
			for t := range w.passages {
				fn(t)
			}
		})
	}
}

// passThrough hands the client over to the server of a database in passthrough
// mode. With agreed it has been told that it may begin TLS, or has begun by
// itself: then nothing can be said to it any more but by the server.
func (c *client) passThrough(ctx context.Context, db *config.Database, agreed, askTLS bool) error {
	err := c.admitPassage(ctx, db, askTLS)
	if err != nil && agreed {
		return &hangup{reason: err.Error()}
	}
	return err
}

func (c *client) admitPassage(ctx context.Context, db *config.Database, askTLS bool) error {
	c.login.Database, c.login.database = db, db.Name
	if c.cfg.LogConnections {
		c.log(zap.InfoLevel, "login attempt: db="+printable(db.Name)+" is passed through")
	}
	if !c.acceptor.takePlace(c.cfg.MaxClientConn) {
		return errTooMany
	}
	c.login.Release = c.acceptor.freePlace
	if err := c.takeRoom(); err != nil {
		return err
	}
	if c.acceptor.o.ShuttingDown() {
		return errShuttingDown
	}
	l := c.login
	return c.acceptor.o.PassThrough(ctx, &l, c.socket.take(), askTLS)
}

// errPassed is what ends the start of a client that was passed through.
var errPassed = errors.New("passed through")

// passByName passes the client through if the TLS handshake that it is about to
// begin is for the server of a database in passthrough mode. Then it returns
// errPassed, or why it did not work.
func (c *client) passByName(ctx context.Context, askTLS bool) error {
	if !c.cfg.HasPassages() {
		return nil
	}
	name, err := c.socket.peekHello(ctx)
	if err != nil {
		return nil // the handshake finds out too, and says so to the client
	}
	db := c.cfg.Passage(name)
	if db == nil {
		return nil
	}
	c.login.ServerName = name
	if err := c.passThrough(ctx, db, true, askTLS); err != nil {
		return err
	}
	return errPassed
}
