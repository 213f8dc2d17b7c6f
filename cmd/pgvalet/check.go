package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/pflag"

	"github.com/pgvalet/pgvalet/auth"
	"github.com/pgvalet/pgvalet/config"
)

// examinedAtOnce is how many databases are looked at at the same time.
const examinedAtOnce = 4

// exitNotConnected is the exit code of check --connect when the configuration is
// valid and a database cannot be used.
const exitNotConnected = exitCode(2)

var errCheckUsage = errors.New("usage: pgvalet check [--connect [--database NAME] [--user NAME]] [--json] CONFIG")

// check says whether a configuration and the files that it names can be used,
// and with --connect whether its databases can.
func check(args []string, stdout io.Writer) error {
	var connect, asJSON bool
	var database, user string
	fs := pflag.NewFlagSet("check", pflag.ContinueOnError)
	fs.Usage = func() {}
	fs.BoolVar(&connect, "connect", false, "")
	fs.BoolVar(&asJSON, "json", false, "")
	fs.StringVar(&database, "database", "", "")
	fs.StringVar(&user, "user", "", "")
	if err := fs.Parse(args); err != nil || fs.NArg() != 1 || fs.Arg(0) == "" || !connect && (asJSON || database != "" || user != "") {
		return errCheckUsage
	}
	path := fs.Arg(0)
	g, err := load(path)
	if err != nil {
		return err
	}
	if !asJSON {
		for _, w := range g.warnings {
			fmt.Fprintln(stdout, "warning: "+w)
		}
	}
	if !connect {
		databases := len(g.config.Databases)
		if g.config.AutoDB != nil {
			databases++
		}
		fmt.Fprintf(stdout, "configuration file %s is valid: %d databases, %d users\n", path, databases, g.userlist.Len())
		return nil
	}
	dbs, err := toExamine(g.config, database)
	if err != nil {
		return err
	}
	d := &doctor{settings: g.poolSettings(), tokens: auth.NewTokenSource(auth.TokenSourceConfig{}), user: user}
	defer d.tokens.Close()
	all := d.examineAll(context.Background(), dbs)
	bad := 0
	for _, p := range all {
		if !p.OK {
			bad++
		}
	}
	if asJSON {
		e := json.NewEncoder(stdout)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		if err := e.Encode(map[string]any{"config": path, "warnings": g.warnings, "ok": bad == 0, "databases": all}); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(stdout, "✓ configuration file %s is valid\n", path)
		for _, p := range all {
			p.write(stdout)
		}
		if bad > 0 {
			fmt.Fprintf(stdout, "\n%d of %d databases cannot be used\n", bad, len(all))
		}
	}
	if bad > 0 {
		return exitNotConnected
	}
	return nil
}

// toExamine returns the databases to look at, by name; not AutoDB, which stands
// for names that clients bring.
func toExamine(c *config.Config, only string) ([]*config.Database, error) {
	if only != "" {
		db := c.Databases[only]
		if db == nil {
			return nil, fmt.Errorf("the configuration has no database %q", only)
		}
		return []*config.Database{db}, nil
	}
	var dbs []*config.Database
	for _, name := range slices.Sorted(maps.Keys(c.Databases)) {
		dbs = append(dbs, c.Databases[name])
	}
	return dbs, nil
}

// examineAll looks at several databases at once, and returns the results in
// their order.
func (d *doctor) examineAll(ctx context.Context, dbs []*config.Database) []*diagnosis {
	type way struct {
		db   *config.Database
		host string
	}
	var ways []way
	for _, db := range dbs {
		for _, host := range db.Hosts() {
			ways = append(ways, way{db, host})
		}
	}
	all := make([]*diagnosis, len(ways))
	slots := make(chan struct{}, examinedAtOnce)
	var wg sync.WaitGroup
	for i, w := range ways {
		slots <- struct{}{}
		wg.Go(func() {
			all[i] = d.examine(ctx, w.db, w.host)
			<-slots
		})
	}
	wg.Wait()
	return all
}

// write prints the diagnosis for people.
func (p *diagnosis) write(w io.Writer) {
	where := p.Host
	if !strings.HasPrefix(where, "/") && !strings.HasPrefix(where, "@") {
		where = fmt.Sprintf("%s:%d", p.Host, p.Port)
	}
	fmt.Fprintf(w, "\n%s: user %q at %s\n", p.Database, p.User, where)
	for _, s := range p.Steps {
		mark, text := "✓", s.Detail
		switch s.State {
		case stepFailed:
			mark, text = "✗", s.Error
		case stepUnknown:
			mark = "?"
		}
		fmt.Fprintf(w, "  %s %-12s %9.1f ms  %s\n", mark, s.Step, s.Millis, text)
		if s.Next != "" {
			fmt.Fprintf(w, "    next: %s\n", s.Next)
		}
	}
}
