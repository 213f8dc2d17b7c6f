package pool

import (
	"crypto/tls"
	"net"
	"slices"
	"sort"
	"time"

	"github.com/jackc/puddle/v2"

	"github.com/pgvalet/pgvalet/backend"
	"github.com/pgvalet/pgvalet/backend/evloop"
	"github.com/pgvalet/pgvalet/config"
)

// Info is the state of one pool at one moment, for SHOW POOLS and SHOW
// DATABASES.
type Info struct {
	Database, User string
	Mode           config.PoolMode
	Clients        int // all of them
	Waiting        int
	Active         int // servers that clients have
	BeingCanceled  int
	Idle           int // free, to be lent at once
	Used           int // free, to be checked before they are lent again (server_check_delay)
	Tested         int
	Login          int           // logins under way
	Cancels        int           // cancel requests under way, each with a connection of its own
	CancelsWaiting int           // of these, how many wait for the connection
	MaxWait        time.Duration // of the oldest waiter
	Size           int
	Paused         bool
}

// Servers is how many connections the pool has open.
func (i *Info) Servers() int { return i.Active + i.BeingCanceled + i.Idle + i.Used + i.Tested }

// ConnInfo is what there is to say of one connection, a client's or a server's,
// at one moment.
type ConnInfo struct {
	ID              uint64
	Database, User  string
	State           string // as SHOW CLIENTS and SHOW SERVERS name it
	Addr, LocalAddr net.Addr
	ConnectedAt     time.Time
	RequestAt       time.Time            // zero: never used
	Link            uint64               // the ID at the other end of the lease, 0 for none
	TLS             *tls.ConnectionState // nil: plain
	Vars            backend.Vars         // the tracked parameters
	Replication     backend.Replication
	ApplicationName string
	Prepared        int // prepared statements
	FD              int

	// In bytes.
	Kept   int // received, not yet looked at
	Left   int // of the message being carried, still to come
	Queued int // to be sent, not yet taken by the socket
}

// ServerInfo is the state of one server at one moment, for SHOW SERVERS.
type ServerInfo struct {
	ConnInfo
	CloseNeeded bool
	PID         uint32
}

// Names returns the host names that are remembered.
func (ps *Pools) Names() []backend.NameInfo { return ps.dns.Snapshot() }

// Snapshot returns the state of all pools, by database and user.
func (ps *Pools) Snapshot() []Info {
	var list []Info
	now := time.Now()
	for _, p := range ps.all("") {
		p.mu.Lock()
		i := Info{
			Database: p.Database, User: p.User, Mode: p.mode, Clients: p.clients, Waiting: p.waiting.n,
			Active: p.passages, Login: p.connecting, Size: p.size, Paused: p.paused, Used: len(p.used()),
		}
		for l := range p.leases {
			i.Cancels += l.cancels
			i.CancelsWaiting += l.cancelsWaiting
			switch l.shown() {
			case stateIdle:
				i.Idle++
			case stateActive:
				i.Active++
			case stateTested:
				i.Tested++
			case stateBeingCanceled:
				i.BeingCanceled++
			}
		}
		i.Idle -= i.Used
		if w := p.waiting.head; w != nil {
			i.MaxWait = now.Sub(w.since)
		}
		p.mu.Unlock()
		list = append(list, i)
	}
	sort.Slice(list, func(a, b int) bool {
		if list[a].Database != list[b].Database {
			return list[a].Database < list[b].Database
		}
		return list[a].User < list[b].User
	})
	return list
}

// used returns the idle servers that would be checked before they are lent. mu
// is held.
func (p *Pool) used() map[*Lease]bool {
	query, delay := p.set.check()
	if query == "" || p.idle == 0 {
		return nil
	}
	used := make(map[*Lease]bool)
	p.closeIdle(func(l *Lease, res *puddle.Resource[*Lease]) string {
		if res.IdleDuration() > delay {
			used[l] = true
		}
		return ""
	})
	return used
}

// Servers returns the state of all servers, oldest first. It asks each loop in
// turn and must not be called from one.
func (ps *Pools) Servers() []ServerInfo {
	found := make(map[*Lease]*ServerInfo)
	pools := ps.all("")
	// A server may go from a loop that has yet to be asked to one that was: it
	// is seen when they are asked again.
	for unseen, passes := 1, 0; unseen > 0 && passes < 3; passes++ {
		for _, loop := range ps.loops {
			unseen = 0
			loop.Call(func() {
				for _, p := range pools {
					unseen += p.describe(loop, found)
				}
			})
		}
	}
	list := make([]ServerInfo, 0, len(found))
	for _, i := range found {
		list = append(list, *i)
	}
	sort.Slice(list, func(a, b int) bool { return list[a].ID < list[b].ID })
	return list
}

// describe adds the pool's servers to found. It returns how many there are of
// which it does not know all, because they belong to another loop.
func (p *Pool) describe(loop *evloop.Loop, found map[*Lease]*ServerInfo) (unseen int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	used := p.used()
	appName := p.set.tracked.Index("application_name")
	for l := range p.leases {
		s, i := l.Server, found[l]
		if i != nil && i.Vars != nil {
			continue
		}
		i = &ServerInfo{
			ConnInfo: ConnInfo{
				ID: l.ID, Database: p.Database, User: p.User, State: l.shown().String(), Addr: s.Addr, LocalAddr: s.LocalAddr,
				ConnectedAt: s.ConnectedAt, RequestAt: l.requestAt, Link: l.client, Replication: l.Replication,
			},
			PID:         s.PID,
			CloseNeeded: l.closeNeeded(),
		}
		if used[l] {
			i.State = "used"
		}
		if cs, ok := s.Stream.TLS(); ok {
			i.TLS = &cs
		}
		found[l] = i
		// What nobody has can be claimed only under p.mu.
		if l.state != stateIdle && !s.Stream.OwnedBy(loop) {
			unseen++
			continue
		}
		i.Vars = slices.Clone(s.Vars)
		i.ApplicationName = s.Vars[appName].Value
		i.Prepared, i.FD = s.Prepared(), s.Stream.FD()
		i.Kept, i.Left, i.Queued = s.Kept(), s.Left(), s.Stream.Queued()
	}
	return unseen
}

// Stats returns the counters of every database, summed over its pools. It asks
// each loop in turn and must not be called from one.
func (ps *Pools) Stats() map[string]Stats {
	pools, sums := ps.all(""), ps.pastStats()
	for _, loop := range ps.loops {
		loop.Call(func() {
			for _, p := range pools {
				sum := sums[p.Database]
				sum.Add(p.Stats(loop))
				sums[p.Database] = sum
			}
		})
	}
	return sums
}
