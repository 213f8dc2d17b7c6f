package backendtest

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
)

// Stats counts what a stand-in for RDS has seen.
type Stats struct {
	Accepted       int            // connections
	Handshakes     int            // TLS handshakes completed
	Logins         int            // let in
	Refused        map[Reason]int // logins refused
	DistinctTokens int            // different ones among those that clients sent
	Cancels        int            // CancelRequests passed on
	Open           int            // connections
	PeakOpen       int
}

// Stats returns the counters as they are now.
func (r *RDS) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.snapshot()
}

// snapshot copies the counters. r.mu must be held.
func (r *RDS) snapshot() Stats {
	s := r.stats
	s.Refused = maps.Clone(s.Refused)
	s.DistinctTokens = len(r.tokens)
	return s
}

// Wait returns once the counters satisfy ok, or an error when ctx ends before.
func (r *RDS) Wait(ctx context.Context, ok func(Stats) bool) error {
	for {
		r.mu.Lock()
		s, changed := r.snapshot(), r.changed
		r.mu.Unlock()
		if ok(s) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%w at %+v", ctx.Err(), s)
		}
	}
}

func (r *RDS) count(change func(s *Stats)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.stats)
	r.notify()
}

func (r *RDS) countRefused(reason Reason) {
	r.count(func(s *Stats) {
		if s.Refused == nil {
			s.Refused = make(map[Reason]int)
		}
		s.Refused[reason]++
	})
}

func (r *RDS) countToken(token string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tokens[sha256.Sum256([]byte(token))] = struct{}{}
	r.notify()
}

// notify wakes Wait. r.mu must be held.
func (r *RDS) notify() {
	close(r.changed)
	r.changed = make(chan struct{})
}
