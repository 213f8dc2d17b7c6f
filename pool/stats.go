package pool

import "time"

// Stats are the counters of one pool on one loop, or sums and differences of
// such. They only grow.
type Stats struct {
	ServerAssignments uint64
	Xacts             uint64
	Queries           uint64
	Received          uint64 // bytes from clients
	Sent              uint64 // bytes to clients
	XactTime          time.Duration
	QueryTime         time.Duration
	WaitTime          time.Duration
	ClientParses      uint64
	ServerParses      uint64
	Binds             uint64
	ClientLogins      uint64

	_ [32]byte // loops write their own all the time: keep them on different cache lines
}

// Add adds o to s.
func (s *Stats) Add(o *Stats) { s.combine(o, 1) }

// Sub subtracts o from s.
func (s *Stats) Sub(o *Stats) { s.combine(o, ^uint64(0)) }

func (s *Stats) combine(o *Stats, sign uint64) {
	s.ServerAssignments += sign * o.ServerAssignments
	s.Xacts += sign * o.Xacts
	s.Queries += sign * o.Queries
	s.Received += sign * o.Received
	s.Sent += sign * o.Sent
	s.XactTime += time.Duration(sign) * o.XactTime
	s.QueryTime += time.Duration(sign) * o.QueryTime
	s.WaitTime += time.Duration(sign) * o.WaitTime
	s.ClientParses += sign * o.ClientParses
	s.ServerParses += sign * o.ServerParses
	s.Binds += sign * o.Binds
	s.ClientLogins += sign * o.ClientLogins
}
