package pool

import (
	"crypto/tls"
	"net"
	"sort"
	"time"

	"github.com/pgvalet/pgvalet/backend"
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
	Idle           int
	Tested         int
	Login          int           // logins under way
	MaxWait        time.Duration // of the oldest waiter
	Size           int
	Paused         bool
}

// Servers is how many connections the pool has open.
func (i *Info) Servers() int { return i.Active + i.BeingCanceled + i.Idle + i.Tested }

// ServerInfo is the state of one server at one moment, for SHOW SERVERS.
type ServerInfo struct {
	ID              uint64
	Database, User  string
	State           string
	Addr, LocalAddr net.Addr
	ConnectedAt     time.Time
	RequestAt       time.Time // zero: never used
	CloseNeeded     bool
	Client          uint64 // who has it, 0 for nobody
	PID             uint32
	TLS             *tls.ConnectionState // nil: plain
	Replication     backend.Replication
}

// Snapshot returns the state of all pools, by database and user.
func (ps *Pools) Snapshot() []Info {
	var list []Info
	now := time.Now()
	for _, p := range ps.all("") {
		p.mu.Lock()
		i := Info{
			Database: p.Database, User: p.User, Mode: p.mode, Clients: p.clients, Waiting: p.waiting.n,
			Active: p.passages, Login: p.connecting, Size: p.size, Paused: p.paused,
		}
		for l := range p.leases {
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

// Servers returns the state of all servers, oldest first.
func (ps *Pools) Servers() []ServerInfo {
	var list []ServerInfo
	for _, p := range ps.all("") {
		p.mu.Lock()
		for l := range p.leases {
			s := l.Server
			i := ServerInfo{
				ID: l.ID, Database: p.Database, User: p.User, State: l.shown().String(), Addr: s.Addr, LocalAddr: s.LocalAddr,
				ConnectedAt: s.ConnectedAt, RequestAt: l.requestAt, Client: l.client, PID: s.PID,
				Replication: l.Replication,
				CloseNeeded: l.state == stateClosing || l.generation != p.generation || p.db == nil,
			}
			if cs, ok := s.Stream.TLS(); ok {
				i.TLS = &cs
			}
			list = append(list, i)
		}
		p.mu.Unlock()
	}
	sort.Slice(list, func(a, b int) bool { return list[a].ID < list[b].ID })
	return list
}

// Stats returns the counters of every database, summed over its pools. It asks
// each loop in turn and must not be called from one.
func (ps *Pools) Stats() map[string]Stats {
	sums := make(map[string]Stats)
	pools := ps.all("")
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
