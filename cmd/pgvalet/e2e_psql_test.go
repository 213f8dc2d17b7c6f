package main

import (
	"bufio"
	"context"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestPsql(t *testing.T) {
	d := newDatabase(t)
	p := newPooler(t)
	p.serve(d)["pool_size"] = 3
	p.start()

	t.Run("describe", func(t *testing.T) {
		d.exec(`CREATE TABLE parent (id bigint PRIMARY KEY, name text NOT NULL DEFAULT 'x')`,
			`CREATE TABLE child (parent bigint REFERENCES parent)`)
		out, errs, err := p.psql(t, `\d parent`, "-P", "tuples_only=off")
		for _, want := range []string{"id|bigint||not null|", "name|text||not null|'x'::text", `"parent_pkey" PRIMARY KEY, btree (id)`, `TABLE "child" CONSTRAINT "child_parent_fkey"`} {
			if err != nil || !strings.Contains(out, want) {
				t.Errorf("%v: %s\\d does not say %q:\n%s", err, errs, want, out)
			}
		}
	})

	t.Run("copy", func(t *testing.T) {
		// 200000 rows of about 40 bytes, there and back.
		d.exec(`CREATE TABLE original AS SELECT i, md5(i::text) AS sum FROM generate_series(1, 200000) i`,
			`CREATE TABLE duplicate (LIKE original)`)
		const checksum = `SELECT count(*) || ' ' || sum(length(sum)) || ' ' || md5(string_agg(i || sum, ',' ORDER BY i)) FROM `
		out, errs, err := p.psql(t, `
\copy original TO '`+p.path("rows")+`'
\copy duplicate FROM '`+p.path("rows")+`'
`+checksum+`original;
`+checksum+`duplicate;
`)
		lines := strings.Fields(out)
		if err != nil || errs != "" || len(lines) != 6 || lines[0] != "200000" || strings.Join(lines[:3], " ") != strings.Join(lines[3:], " ") {
			t.Errorf("%v: %s: checksums %q", err, errs, lines)
		}
	})

	t.Run("notice", func(t *testing.T) {
		out, errs, err := p.psql(t, `DO $$ BEGIN RAISE NOTICE 'mind the gap'; END $$; SELECT 'done';`)
		if err != nil || out != "done\n" || errs != "NOTICE:  mind the gap\n" {
			t.Errorf("%v: got %q and %q", err, out, errs)
		}
	})

	t.Run("error in a transaction", func(t *testing.T) {
		out, errs, err := p.psql(t, `
CREATE TABLE leftover (i int);
BEGIN;
INSERT INTO leftover VALUES (1);
SELECT 1/0;
SELECT 'unreached';
ROLLBACK;
SELECT 'rows: ' || count(*) FROM leftover;
`)
		wantErrs := "ERROR:  division by zero\nERROR:  current transaction is aborted, commands ignored until end of transaction block\n"
		if err != nil || out != "rows: 0\n" || errs != wantErrs {
			t.Errorf("%v: got %q and %q", err, out, errs)
		}
	})

	t.Run("unix socket", func(t *testing.T) {
		cmd := p.libpq(t, "psql", "-X", "-A", "-t", "-c", "SELECT current_user")
		cmd.Env = append(cmd.Env, "PGHOST="+p.dir, "PGSSLMODE=prefer", "PGCHANNELBINDING=prefer")
		if out, err := cmd.CombinedOutput(); err != nil || string(out) != d.name+"\n" {
			t.Errorf("%v: %s", err, out)
		}
	})

	t.Run("watch", func(t *testing.T) {
		// \watch goes on until it is interrupted.
		cmd := p.libpq(t, "psql", "-X", "-A", "-t")
		cmd.Stdin = strings.NewReader(`SELECT 'tick' \watch 0.01` + "\n")
		stdout := must(cmd.StdoutPipe())(t)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ticks := 0
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			if lines.Text() == "tick" {
				ticks++
			}
			if ticks == 10 {
				if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait() // it says that it was interrupted
		if ticks < 10 || !cmd.ProcessState.Exited() {
			t.Errorf("%d ticks, then %v", ticks, cmd.ProcessState)
		}
	})
	d.until(0, "state <> 'idle'")
	if n := d.servers("true"); n > 3 {
		t.Errorf("%d servers, pool_size is 3", n)
	}
}

// interrupted runs a query in psql, calls running, which returns when the query
// runs, and interrupts psql. It returns what psql has said in the end.
func (p *pooler) interrupted(t *testing.T, query string, running func(said *logLines)) string {
	t.Helper()
	cmd := p.libpq(t, "psql", "-X", "-A", "-t", "-c", query)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // as shells do: ^C in a terminal is for the group
	var said logLines
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	running(&said)
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it fails, with the query
	if !cmd.ProcessState.Exited() {
		t.Errorf("psql: %v", cmd.ProcessState)
	}
	return said.String()
}

// sleeping is the condition of servers that run a query with a remark.
func sleeping(remark string) string {
	return "state = 'active' AND query LIKE '%pg_sleep%" + remark + "%'"
}

// sleeper is a client with a long query.
type sleeper struct {
	conn *pgx.Conn
	done chan error
}

// sleep starts so many of them and waits until all are at it.
func (p *pooler) sleep(t *testing.T, d *database, n int) []*sleeper {
	t.Helper()
	var all []*sleeper
	for range n {
		s := &sleeper{conn: p.connect(t), done: make(chan error, 1)}
		all = append(all, s)
		go func() {
			_, err := s.conn.Exec(context.Background(), "SELECT pg_sleep(600) /* other */")
			s.done <- err
		}()
	}
	d.until(n, sleeping("other"))
	return all
}

// cancel ends the sleeper's query, and nobody else's.
func (s *sleeper) cancel(t *testing.T) {
	t.Helper()
	if err := s.conn.PgConn().CancelRequest(testContext(t)); err != nil {
		t.Error(err)
	}
	wantError(t, <-s.done, "57014", "canceling statement due to user request")
	if got := one(t, s.conn, "SELECT 'and on'"); got != "and on" {
		t.Errorf("got %q after a cancelled query", got)
	}
}

func TestInterrupt(t *testing.T) {
	const wantOutput = "Cancel request sent\nERROR:  canceling statement due to user request\n"
	d := newDatabase(t)
	p := newPooler(t)
	p.serve(d)["pool_size"] = 4
	p.conf.set("query_wait_notify", "10ms")
	p.start()

	t.Run("alone", func(t *testing.T) {
		out := p.interrupted(t, "SELECT pg_sleep(600) /* mine */", func(*logLines) { d.until(1, sleeping("mine")) })
		if !strings.HasSuffix(out, wantOutput) {
			t.Errorf("psql says %q, want %q at the end", out, wantOutput)
		}
		d.until(0, sleeping("mine"))
	})

	t.Run("among others", func(t *testing.T) {
		others := p.sleep(t, d, 3) // with psql's, the pool is full
		out := p.interrupted(t, "SELECT pg_sleep(600) /* mine */", func(*logLines) { d.until(1, sleeping("mine")) })
		if !strings.HasSuffix(out, wantOutput) {
			t.Errorf("psql says %q, want %q at the end", out, wantOutput)
		}
		if n := d.servers(sleeping("other")); n != 3 {
			t.Errorf("%d of 3 others sleep on", n)
		}
		for left := 2; left >= 0; left-- {
			others[left].cancel(t)
			if n := d.servers(sleeping("other")); n != left {
				t.Errorf("%d others sleep, want %d", n, left)
			}
		}
	})

	t.Run("waiting for a server", func(t *testing.T) {
		others := p.sleep(t, d, 4)
		out := p.interrupted(t, "SELECT 'never run'", func(said *logLines) {
			if _, err := said.wait(queuedNotice); err != nil {
				t.Error(err)
			}
		})
		if want := "NOTICE:  " + queuedNotice + "\n" + wantOutput; out != want {
			t.Errorf("psql says %q, want %q", out, want)
		}
		if n := d.servers(sleeping("other")); n != 4 {
			t.Errorf("%d of 4 others sleep on", n)
		}
		for _, o := range others {
			o.cancel(t)
		}
	})
}
