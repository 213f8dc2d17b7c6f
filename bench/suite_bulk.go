package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// bulkSuite moves many bytes through one connection.
var bulkSuite = suite{
	name:  "bulk",
	title: "Bulk data",
	bases: []string{pgbouncerKind, directKind, relayKind},
	figures: []figure{
		{key: "mb_per_s", title: "MB/s", plot: true},
		{key: "cpu_s_per_gb", title: "pooler CPU s/GB", digits: 2, cost: true, plot: true},
	},
	run: runBulkSuite,
}

// bulkTables returns the statements that make the tables: bulk is 90 bytes a
// row as text, wide 24 columns of together 480, bulk_in what is copied into.
func bulkTables(rows int) []string {
	columns := make([]string, 12)
	for i := range columns {
		columns[i] = fmt.Sprintf("(g * %d) %% 1000003 AS n%d, md5((g + %d)::text) AS t%d", i+1, i, i, i)
	}
	return []string{
		"SET ROLE " + userName,
		"DROP TABLE IF EXISTS bulk, wide, bulk_in",
		fmt.Sprintf("CREATE UNLOGGED TABLE bulk AS SELECT g AS id, g %% 1000 AS kind, md5(g::text) AS a, md5((-g)::text) AS b, 7919 * g::bigint AS n FROM generate_series(1, %d) AS g", rows),
		fmt.Sprintf("CREATE UNLOGGED TABLE wide AS SELECT %s FROM generate_series(1, %d) AS g", strings.Join(columns, ", "), rows/10),
		"CREATE UNLOGGED TABLE bulk_in (LIKE bulk)",
		"ANALYZE bulk",
		"ANALYZE wide",
	}
}

func runBulkSuite(ctx context.Context, b *bench, result *SuiteResult) error {
	rows := 1_000_000
	if b.options.smoke {
		rows = 20_000
	}
	if err := b.execIn(ctx, bulkTables(rows)...); err != nil {
		return err
	}
	data, err := b.bulkData(ctx)
	if err != nil {
		return err
	}
	jobs := []struct {
		name string
		job  bulkJob
	}{
		{"COPY out", copyOut},
		{"COPY in", b.copyIn(data)},
		{"wide SELECT", selectWide},
	}
	return b.eachVariant(ctx, true, func(variant string, targets []*target) error {
		relay, err := b.startRelay(ctx, variant) // the floor, see floorSuite
		if err != nil {
			return err
		}
		defer relay.stop()
		targets = append(targets, relay)
		for _, j := range jobs {
			samples, err := rounds(ctx, b, fmt.Sprintf("bulk %s %s", variant, j.name), targets, targetName,
				func(ctx context.Context, t *target, round int) (figures, error) {
					length := time.Duration(b.options.seconds) * time.Second
					if round == 0 || b.options.smoke {
						length = 0 // once
					}
					return t.bulk(ctx, j.job, length)
				})
			if err != nil {
				return err
			}
			result.add(Case{Name: j.name, Variant: variant, Plot: true, Samples: samples})
		}
		return nil
	})
}

// bulkJob moves bytes once, and returns how many and how long it took.
type bulkJob func(ctx context.Context, conn *pgconn.PgConn) (size int64, took time.Duration, err error)

// bulk repeats a job on one connection for a length of time. CPU time between
// the jobs is the pooler's too, but it has nothing to do then.
func (t *target) bulk(ctx context.Context, job bulkJob, length time.Duration) (figures, error) {
	conn, err := t.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	before, err := t.cpuOrNone()
	if err != nil {
		return nil, err
	}
	var size int64
	var took time.Duration
	for start := time.Now(); size == 0 || time.Since(start) < length; {
		n, d, err := job(ctx, conn)
		if err != nil {
			return nil, err
		}
		size, took = size+n, took+d
	}
	after, err := t.cpuOrNone()
	if err != nil {
		return nil, err
	}
	f := figures{"mb_per_s": float64(size) / 1e6 / took.Seconds(), "bytes": float64(size)}
	if t.proc != nil {
		f["cpu_s_per_gb"] = (after - before).Seconds() / (float64(size) / 1e9)
	}
	return f, nil
}

// connect logs in with pgx's driver. The caller closes the connection.
func (t *target) connect(ctx context.Context) (*pgconn.PgConn, error) {
	config, err := pgconn.ParseConfig(fmt.Sprintf("host=127.0.0.1 port=%d sslmode=disable", t.port))
	if err != nil {
		return nil, err
	}
	config.Database, config.User, config.Password = databaseName, t.endpoint.credentials.user, t.endpoint.credentials.password
	config.TLSConfig = t.endpoint.tls
	return pgconn.ConnectConfig(ctx, config)
}

// counter counts what is written to it.
type counter int64

func (c *counter) Write(b []byte) (int, error) {
	*c += counter(len(b))
	return len(b), nil
}

func copyOut(ctx context.Context, conn *pgconn.PgConn) (int64, time.Duration, error) {
	var size counter
	start := time.Now()
	_, err := conn.CopyTo(ctx, &size, "COPY bulk TO STDOUT")
	return int64(size), time.Since(start), err
}

// bulkData returns what COPY out gives, to be copied in.
func (b *bench) bulkData(ctx context.Context) ([]byte, error) {
	conn, err := b.direct(plainVariant).connect(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	var data bytes.Buffer
	_, err = conn.CopyTo(ctx, &data, "COPY bulk TO STDOUT")
	return data.Bytes(), err
}

// copyIn copies data into a table that is emptied first, past the pooler and
// the clock.
func (b *bench) copyIn(data []byte) bulkJob {
	return func(ctx context.Context, conn *pgconn.PgConn) (int64, time.Duration, error) {
		if err := b.execIn(ctx, "TRUNCATE bulk_in"); err != nil {
			return 0, 0, err
		}
		start := time.Now()
		_, err := conn.CopyFrom(ctx, bytes.NewReader(data), "COPY bulk_in FROM STDIN")
		return int64(len(data)), time.Since(start), err
	}
}

// selectWide counts the bytes of the DataRow messages.
func selectWide(ctx context.Context, conn *pgconn.PgConn) (int64, time.Duration, error) {
	const (
		rowBytes   = 7 // of the message: type, length, number of columns
		valueBytes = 4 // of a value's length
	)
	var size int64
	start := time.Now()
	results := conn.Exec(ctx, "SELECT * FROM wide")
	for results.NextResult() {
		reader := results.ResultReader()
		for reader.NextRow() {
			size += rowBytes
			for _, value := range reader.Values() {
				size += valueBytes + int64(len(value))
			}
		}
	}
	return size, time.Since(start), results.Close()
}
