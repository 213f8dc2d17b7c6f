package pool

import (
	"time"

	"go.uber.org/zap"
)

// After a failover an endpoint's name leads to another server; but connections
// to the old one may live on, and new ones may still be led there while a name
// server remembers. It has come back as a reader, and refuses to write.
//
// A reader refuses so all the time, and so does every server inside of a
// transaction that its client has made read-only. Hence three things must come
// together: a client was told 25006, the pool has had a writer, and the server,
// asked, says that it is in recovery. Then all servers of the pool are replaced,
// and the name is looked up anew.

// writeProbe fails in recovery and does nothing elsewhere.
const writeProbe = "BEGIN READ WRITE; COMMIT"

const (
	// probePause is how long no server of the pool is asked again.
	probePause = 5 * time.Second
	// mostProbePause bounds the pause when the name keeps leading to readers.
	mostProbePause = 5 * time.Minute
)

// mayHaveFailedOver reports whether a server that has refused to write is to be
// asked why.
func (p *Pool) mayHaveFailedOver(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.writer || now.Before(p.probeAt) {
		return false
	}
	p.probeAt = now.Add(max(probePause, p.probePause))
	return true
}

// failedOver replaces the servers of the pool.
func (p *Pool) failedOver() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.probePause = min(max(probePause, 2*p.probePause), mostProbePause)
	p.probeAt = time.Now().Add(p.probePause)
	p.generation++
	p.log.Warn("server has become read-only, as after a failover: all servers are replaced",
		zap.String("database", p.Database), zap.String("user", p.User))
	p.closeStale()
	p.launch()
}
