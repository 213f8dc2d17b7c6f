package frontend

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/pgvalet/pgvalet/pool"
)

// What is counted, in the order of the tables' columns.
const (
	statAssignments = iota
	statXacts
	statQueries
	statReceived
	statSent
	statXactTime // times are in microseconds
	statQueryTime
	statWaitTime
	statClientParses
	statServerParses
	statBinds
	statLogins
	statCount
)

// figures are the counters of one database, or averages of them.
type figures [statCount]uint64

func figuresOf(s *pool.Stats) figures {
	return figures{
		statAssignments:  s.ServerAssignments,
		statXacts:        s.Xacts,
		statQueries:      s.Queries,
		statReceived:     s.Received,
		statSent:         s.Sent,
		statXactTime:     uint64(s.XactTime.Microseconds()),
		statQueryTime:    uint64(s.QueryTime.Microseconds()),
		statWaitTime:     uint64(s.WaitTime.Microseconds()),
		statClientParses: s.ClientParses,
		statServerParses: s.ServerParses,
		statBinds:        s.Binds,
		statLogins:       s.ClientLogins,
	}
}

func (f *figures) add(o *figures) {
	for i := range f {
		f[i] += o[i]
	}
}

// averages returns what has happened since old, a time ago: times for each
// transaction, query or assignment, everything else for each second (like
// calc_average in PgBouncer's stats.c). Counters that have started again from
// zero, because a database was removed and added, are taken whole.
func (f *figures) averages(old *figures, ago time.Duration) figures {
	var avg figures
	for i := range f {
		avg[i] = f[i]
		if f[i] >= old[i] {
			avg[i] = f[i] - old[i]
		}
	}
	per := map[int]uint64{statXactTime: avg[statXacts], statQueryTime: avg[statQueries], statWaitTime: avg[statAssignments]}
	for i := range avg {
		if n, isTime := per[i]; !isTime {
			avg[i] = avg[i] * 1e6 / max(uint64(ago.Microseconds()), 1)
		} else if n > 0 {
			avg[i] /= n
		} else {
			avg[i] = 0
		}
	}
	return avg
}

// statsKeeper remembers the counters at the ends of the last two periods. An
// average is of the time since the older one, one to two periods, so that it
// never is of a moment only.
type statsKeeper struct {
	mu           sync.Mutex // guards the fields below
	newer, older map[string]figures
	newerAt      time.Time
	olderAt      time.Time
}

// start begins the first period. Until it is over, averages are of at least a
// second, as in PgBouncer.
func (k *statsKeeper) start(now time.Time) { k.newerAt, k.olderAt = now, now.Add(-time.Second) }

// period ends a period. It returns the averages of it over all databases.
func (k *statsKeeper) period(now time.Time, counters map[string]figures) figures {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.older, k.olderAt = k.newer, k.newerAt
	k.newer, k.newerAt = counters, now
	cur, old := total(k.newer), total(k.older)
	return cur.averages(&old, now.Sub(k.olderAt))
}

// since returns the counters that averages are taken from, and when that was.
func (k *statsKeeper) since() (map[string]figures, time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.older, k.olderAt
}

func total(counters map[string]figures) figures {
	var sum figures
	for _, f := range counters {
		sum.add(&f)
	}
	return sum
}

// counters returns the present counters of every database, the console among
// them.
func (c *Console) counters() map[string]figures {
	m := make(map[string]figures)
	for database, s := range c.o.Pools.Stats() {
		m[database] = figuresOf(&s)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	m[consoleName] = figuresOf(&c.counted)
	return m
}

// keepStats ends a period every stats_period until the console is closed.
func (c *Console) keepStats() {
	for {
		t := time.NewTimer(c.o.Config().StatsPeriod)
		select {
		case <-t.C:
		case <-c.ctx.Done():
			t.Stop()
			return
		}
		avg := c.stats.period(time.Now(), c.counters())
		line := statsLine(&avg)
		if c.o.Config().LogStats {
			c.o.Log.Info(line)
		}
		if c.o.Status != nil {
			c.o.Status(line)
		}
	}
}

// statsLine is PgBouncer's log line, which tools read.
func statsLine(avg *figures) string {
	return fmt.Sprintf("stats: %d xacts/s, %d queries/s, %d client parses/s, %d server parses/s, %d binds/s, %d client logins/s, "+
		"in %d B/s, out %d B/s, xact %d us, query %d us, wait %d us",
		avg[statXacts], avg[statQueries], avg[statClientParses], avg[statServerParses], avg[statBinds], avg[statLogins],
		avg[statReceived], avg[statSent], avg[statXactTime], avg[statQueryTime], avg[statWaitTime])
}

func statsCommands() []consoleCommand {
	return []consoleCommand{
		{
			name: "SHOW STATS", rows: func(c *Console) [][]any { return c.showStats(true, true) },
			columns: columnsOf("database total_server_assignment_count:n total_xact_count:n total_query_count:n total_received:n total_sent:n " +
				"total_xact_time:n total_query_time:n total_wait_time:n total_client_parse_count:n total_server_parse_count:n total_bind_count:n total_client_login_count:n " +
				"avg_server_assignment_count:n avg_xact_count:n avg_query_count:n avg_recv:n avg_sent:n " +
				"avg_xact_time:n avg_query_time:n avg_wait_time:n avg_client_parse_count:n avg_server_parse_count:n avg_bind_count:n avg_client_login_count:n"),
			help: "Per database, the counters since the start (`total_`), and averages over the last `stats_period` (`avg_`): " +
				"microseconds for each transaction, query or wait, everything else for each second. Bytes received are those from clients.",
		},
		{
			name: "SHOW STATS_TOTALS", rows: func(c *Console) [][]any { return c.showStats(true, false) },
			columns: columnsOf("database server_assignment_count:n xact_count:n query_count:n bytes_received:n bytes_sent:n " +
				"xact_time:n query_time:n wait_time:n client_parse_count:n server_parse_count:n bind_count:n client_login_count:n"),
			help: "The counters of `SHOW STATS`.",
		},
		{
			name: "SHOW STATS_AVERAGES", rows: func(c *Console) [][]any { return c.showStats(false, true) },
			columns: columnsOf("database server_assignment_count:n xact_count:n query_count:n bytes_received:n bytes_sent:n " +
				"xact_time:n query_time:n wait_time:n avg_client_parse_count:n avg_server_parse_count:n avg_bind_count:n avg_client_login_count:n"),
			help: "The averages of `SHOW STATS`.",
		},
		{
			name: "SHOW TOTALS", rows: (*Console).showTotals, columns: columnsOf("name value:n"),
			help: "The same over all databases, one row for each figure.",
		},
	}
}

func (c *Console) showStats(totals, averages bool) [][]any {
	old, at := c.stats.since()
	counters, ago := c.counters(), time.Since(at)
	var rows [][]any
	for _, database := range slices.Sorted(maps.Keys(counters)) {
		row := []any{database}
		f, was := counters[database], old[database]
		if totals {
			row = f.appendTo(row)
		}
		if averages {
			avg := f.averages(&was, ago)
			row = avg.appendTo(row)
		}
		rows = append(rows, row)
	}
	return rows
}

func (f *figures) appendTo(row []any) []any {
	for _, n := range f {
		row = append(row, n)
	}
	return row
}

func (c *Console) showTotals() [][]any {
	old, at := c.stats.since()
	sum, was := total(c.counters()), total(old)
	avg := sum.averages(&was, time.Since(at))
	var rows [][]any
	for _, part := range []struct {
		prefix string
		values figures
	}{{"total_", sum}, {"avg_", avg}} {
		for i, name := range [statCount]string{
			"server_assignment_count", "xact_count", "query_count", "client_bytes", "server_bytes", "xact_time", "query_time", "wait_time",
			"ps_client_parse_count", "ps_server_parse_count", "ps_bind_count", "client_login_count",
		} {
			rows = append(rows, []any{part.prefix + name, part.values[i]})
		}
	}
	return rows
}
