package frontend

import (
	"math"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/pgvalet/pgvalet/pool"
)

func TestAverages(t *testing.T) {
	old := figuresOf(&pool.Stats{
		ServerAssignments: 1, Xacts: 10, Queries: 20, Received: 1000, Sent: 2000, XactTime: time.Second, QueryTime: time.Second, WaitTime: time.Second,
		ClientParses: 5, ServerParses: 5, Binds: 5, ClientLogins: 5,
	})
	cur := figuresOf(&pool.Stats{
		ServerAssignments: 5, Xacts: 30, Queries: 60, Received: 5000, Sent: 8000, XactTime: 2 * time.Second, QueryTime: 3 * time.Second, WaitTime: time.Second + 8*time.Millisecond,
		ClientParses: 7, ServerParses: 9, Binds: 45, ClientLogins: 5,
	})
	const ten = 10 * time.Second
	for _, tt := range []struct {
		name     string
		cur, old figures
		ago      time.Duration
		want     figures
	}{
		{"a period", cur, old, ten, figures{0, 2, 4, 400, 600, 50000, 50000, 2000, 0, 0, 4, 0}},
		{"half a second", cur, old, ten / 20, figures{8, 40, 80, 8000, 12000, 50000, 50000, 2000, 4, 8, 80, 0}},
		{"nothing happened", cur, cur, ten, figures{}},
		{"no time", old, old, 0, figures{}},
		{"started again", figures{statQueries: 50, statQueryTime: 500}, figures{statQueries: 60, statQueryTime: 1000}, ten, figures{statQueries: 5, statQueryTime: 10}},
	} {
		if got := tt.cur.averages(&tt.old, tt.ago); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// Averages are since the end of the period before the last.
func TestStatsKeeper(t *testing.T) {
	var k statsKeeper
	begin := time.Now()
	at := func(s int) time.Time { return begin.Add(time.Duration(s) * time.Second) }
	k.start(at(0))
	counters := func(a, b uint64) map[string]figures {
		return map[string]figures{"a": {statXacts: a}, "b": {statXacts: b}}
	}
	for i, tt := range []struct {
		now        int
		a, b       uint64
		avg        uint64
		since      int
		sinceCount uint64
	}{
		{now: 10, a: 100, b: 100, avg: 20, since: 0},
		{now: 20, a: 200, b: 400, avg: 40, since: 10, sinceCount: 100},
		{now: 40, a: 200, b: 400, avg: 0, since: 20, sinceCount: 200},
	} {
		avg := k.period(at(tt.now), counters(tt.a, tt.b))
		old, when := k.since()
		if avg[statXacts] != tt.avg || !when.Equal(at(tt.since)) || old["a"][statXacts] != tt.sinceCount {
			t.Errorf("period %d: average %d, since %v with %d", i, avg[statXacts], when.Sub(begin), old["a"][statXacts])
		}
	}
}

func TestConsoleLogsStats(t *testing.T) {
	cfg := consoleConfig(t, noServer)
	cfg.StatsPeriod = time.Millisecond
	lines := make(chan string, 1)
	startConsole(t, cfg, func(f *fixture) {
		f.Log = f.Log.WithOptions(zap.Hooks(func(e zapcore.Entry) error {
			if strings.HasPrefix(e.Message, "stats: ") {
				select {
				case lines <- e.Message:
				default:
				}
			}
			return nil
		}))
	})
	const want = "stats: 0 xacts/s, 0 queries/s, 0 client parses/s, 0 server parses/s, 0 binds/s, 0 client logins/s, in 0 B/s, out 0 B/s, xact 0 us, query 0 us, wait 0 us"
	select {
	case got := <-lines:
		if got != want {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	case <-timeout(t).Done():
		t.Fatal("no statistics in the log")
	}
}

func TestConsoleStats(t *testing.T) {
	f, _ := startBusy(t)
	conn := f.open(t, "watcher", "pgbouncer", pgx.QueryExecModeSimpleProtocol)
	must(t, conn, "SHOW VERSION; SHOW VERSION")
	// All that shop has had is one login and one BEGIN, under way for the pool.
	got := must(t, conn, "SHOW STATS_TOTALS")
	rows := strings.Split(got, "\n")
	if len(rows) != 3 || !strings.HasPrefix(rows[1], "pgbouncer|0|3|3|") || slices.Contains(strings.Split(rows[1], "|")[4:6], "0") || !strings.HasSuffix(rows[1], "|0|0|0|0|1") ||
		!strings.HasPrefix(rows[2], "shop|1|0|1|") || !strings.HasSuffix(rows[2], "|0|0|0|1") {
		t.Errorf("totals %s", got)
	}
	f.console.stats.mu.Lock()
	f.console.stats.olderAt = time.Now().Add(-time.Hour) // an average since then is zero, whole as it is
	f.console.stats.mu.Unlock()
	got = must(t, conn, "SHOW STATS_AVERAGES")
	if rows := strings.Split(got, "\n"); len(rows) != 3 || !strings.HasPrefix(rows[2], "shop|0|0|0|0|0|0|") || strings.HasPrefix(rows[2], "shop|0|0|0|0|0|0|0|0|") {
		t.Errorf("averages %s", got)
	}
}

func TestNumericBinary(t *testing.T) {
	types := pgtype.NewMap()
	for _, n := range []uint64{0, 1, 9999, 10000, 10001, 123456789, 100000000, math.MaxUint64} {
		var v pgtype.Numeric
		if err := types.Scan(pgtype.NumericOID, pgtype.BinaryFormatCode, encodeValue(columnNumeric, true, n), &v); err != nil {
			t.Fatalf("%d: %v", n, err)
		}
		got := new(big.Int).Mul(v.Int, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(v.Exp)), nil))
		if got.Uint64() != n || !got.IsUint64() {
			t.Errorf("%d is read as %v", n, got)
		}
	}
}

func TestEncodeValue(t *testing.T) {
	for _, tt := range []struct {
		typ    columnType
		binary bool
		v      any
		want   string
	}{
		{columnText, false, "a", "a"},
		{columnText, true, "a", "a"},
		{columnText, true, "", ""},
		{columnInt4, false, 7, "7"},
		{columnInt4, true, 258, "\x00\x00\x01\x02"},
		{columnInt4, true, uint64(1 << 40), "\x7f\xff\xff\xff"},
		{columnInt4, false, uint64(1 << 40), "2147483647"},
		{columnInt4, false, -1, "0"},
		{columnNumeric, false, uint64(math.MaxUint64), "18446744073709551615"},
	} {
		if got := encodeValue(tt.typ, tt.binary, tt.v); string(got) != tt.want || got == nil {
			t.Errorf("%v %v as binary %v: %q, want %q", tt.typ, tt.v, tt.binary, got, tt.want)
		}
	}
	if got := encodeValue(columnInt4, true, nil); got != nil {
		t.Errorf("NULL is %q", got)
	}
}
