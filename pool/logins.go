package pool

import (
	"sort"
	"time"

	"go.uber.org/zap"

	"github.com/pgvalet/pgvalet/backend"
	"github.com/pgvalet/pgvalet/config"
)

// logins counts what has become of a pool's logins to its server. Pool.mu guards
// it.
type logins struct {
	succeeded uint64
	failed    [backend.ReasonCount]uint64
	last      error // the last failure
	lastAt    time.Time
}

func (c *logins) fail(err error) backend.Reason {
	reason := backend.Explain(err).Reason
	c.failed[reason]++
	c.last, c.lastAt = err, time.Now()
	return reason
}

// LoginInfo is what has become of the logins of one pool since it was made.
type LoginInfo struct {
	Database, User string
	Succeeded      uint64
	Failed         [backend.ReasonCount]uint64 // by reason
	Last           error                       // the last failure, whatever came after it; nil: none
	LastAt         time.Time
}

// Logins returns the counters of all pools, by database and user.
func (ps *Pools) Logins() []LoginInfo {
	var list []LoginInfo
	for _, p := range ps.all("") {
		p.mu.Lock()
		c := p.logins
		p.mu.Unlock()
		list = append(list, LoginInfo{p.Database, p.User, c.succeeded, c.failed, c.last, c.lastAt})
	}
	sort.Slice(list, func(a, b int) bool {
		if list[a].Database != list[b].Database {
			return list[a].Database < list[b].Database
		}
		return list[a].User < list[b].User
	})
	return list
}

// signer is whose IAM tokens the pool logs in with, for the log. mu is held.
func (p *Pool) signer() []zap.Field {
	if len(p.hosts) == 0 || p.hosts[0].target.IAM == nil { // all hosts get the same token
		return nil
	}
	k := p.hosts[0].target.IAM.Key
	fields := []zap.Field{
		zap.String("iam_host", k.Host), zap.Int("iam_port", k.Port), zap.String("iam_region", k.Region), zap.String("iam_user", k.User),
	}
	if p.db != nil && p.db.ServerAuth == config.ServerAuthClientToken {
		return append(fields, zap.String("credentials", "a client's"), zap.String("access_key", p.set.presented.accessKey(key{p.Database, p.User})))
	}
	for _, c := range p.set.tokens.Credentials() {
		if c.Key != k.Credentials {
			continue
		}
		for _, f := range [...]zap.Field{zap.String("credentials", c.Source), zap.String("access_key", c.AccessKey), zap.String("role", c.RoleARN)} {
			if f.String != "" {
				fields = append(fields, f)
			}
		}
	}
	return fields
}

// Failure is why the pool's last login failed, nil if it did not.
func (p *Pool) Failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed
}
