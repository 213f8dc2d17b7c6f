package pool

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/pgvalet/pgvalet/config"
)

// register notes that somebody asks for a database which only the entry "*"
// stands for: from now on it is a database like others, until nobody has used it
// for autodb_idle_timeout. mu is held.
func (ps *Pools) register(db *config.Database, c *config.Config) {
	if c.Databases[db.Name] != nil {
		return
	}
	if _, known := ps.auto[db.Name]; !known {
		ps.log.Info("registered new auto-database: " + db.Name)
	}
	ps.auto[db.Name] = time.Now()
}

// Databases returns every database, by name: those of the configuration, and
// the auto-databases that clients have asked for.
func (ps *Pools) Databases() []*config.Database {
	c := ps.config()
	all := slices.Collect(maps.Values(c.Databases))
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for name := range ps.auto {
		if db := c.Database(name); db != nil && c.Databases[name] == nil {
			all = append(all, db)
		}
	}
	slices.SortFunc(all, func(a, b *config.Database) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// find is known, and registers a database that only the entry "*" stands for: the
// operator may have something done to it before its first client comes. mu is
// held.
func (ps *Pools) find(database string) bool {
	c := ps.config()
	db := c.Database(database)
	if db != nil {
		ps.register(db, c)
	}
	return db != nil
}

// known reports whether database is in the configuration or registered. mu is
// held.
func (ps *Pools) known(database string) bool {
	_, auto := ps.auto[database]
	return auto || ps.config().Databases[database] != nil
}

// names returns the databases that Databases returns. mu is held.
func (ps *Pools) names() []string {
	return slices.AppendSeq(slices.Collect(maps.Keys(ps.auto)), maps.Keys(ps.config().Databases))
}

// forgetAuto forgets the auto-databases that nobody has used for a while, and
// those that a reload has given an entry or taken the entry "*" from. A client
// that has just got its pool counts as a use: it is in the pool long before the
// time is over.
func (ps *Pools) forgetAuto(now time.Time) {
	c := ps.config()
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for name, used := range ps.auto {
		if c.Databases[name] != nil || c.Database(name) == nil {
			delete(ps.auto, name)
			continue
		}
		idle := !ps.paused[name] && !ps.disabled[name]
		for k, p := range ps.pools {
			idle = idle && (k.database != name || p.unused())
		}
		if !idle {
			ps.auto[name] = now
			continue
		}
		if c.AutodbIdleTimeout == 0 || now.Sub(used) <= c.AutodbIdleTimeout {
			continue
		}
		ps.log.Warn("dropping database as it does not exist anymore or inactive auto-database", zap.String("database", name))
		delete(ps.auto, name)
		delete(ps.past, name)
		for k, p := range ps.pools {
			if k.database == name {
				ps.drop(p)
			}
		}
	}
}

// unused reports whether the pool has neither clients nor servers, nor a login
// under way on either side.
func (p *Pool) unused() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.clients == 0 && len(p.leases) == 0 && p.connecting == 0 && p.passages == 0 && len(p.wantWelcome) == 0 && p.waiting.n == 0
}
