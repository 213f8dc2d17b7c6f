package config

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "rewrite the expected files and docs/config.md")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// golden compares got with the file, or writes the file.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o666); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is not what the code writes (-update rewrites it). Got:\n%s", path, got)
	}
}

func files(t *testing.T, patterns ...string) []string {
	t.Helper()
	var all []string
	for _, pattern := range patterns {
		paths, err := filepath.Glob(pattern)
		if err != nil || len(paths) == 0 {
			t.Fatalf("no files %s: %v", pattern, err)
		}
		all = append(all, paths...)
	}
	return all
}

func TestLoadGood(t *testing.T) {
	for _, path := range files(t, "testdata/good/*.toml", "testdata/good/*.ini") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			c, err := Load(path)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, strings.TrimSuffix(path, ".toml")+".want", dump(t, c))
		})
	}
}

// dump writes what differs from the defaults, with all that was derived.
func dump(t *testing.T, c *Config) string {
	var b strings.Builder
	for _, s := range c.table() {
		if s.get() != s.def() && s.alias == "" && (s.name != "conffile" || c.ConfFile != c.Path) {
			fmt.Fprintf(&b, "%s = %s\n", s.name, s.get())
		}
	}
	entry := func(title string, table, defaults []setting) {
		fmt.Fprintf(&b, "[%s]\n", title)
		for i, s := range table {
			if s.get() != defaults[i].get() {
				fmt.Fprintf(&b, "%s = %s\n", s.name, s.get())
			}
		}
	}
	for _, d := range c.Entries() {
		entry("databases."+d.Name, d.table(), newDatabase("").table())
	}
	for _, name := range slices.Sorted(maps.Keys(c.Users)) {
		entry("users."+name, c.Users[name].table(), newUser("").table())
	}
	for _, id := range slices.Sorted(maps.Keys(c.Peers)) {
		entry(fmt.Sprintf("peers.%d", id), c.Peers[id].table(), newPeer(0).table())
	}
	for _, w := range c.Warnings {
		fmt.Fprintln(&b, "warning:", w)
	}
	base := filepath.Dir(filepath.Dir(c.Path))
	if !filepath.IsAbs(base) {
		t.Errorf("Path %q is not absolute", c.Path)
	}
	cwd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer(base, "BASE", cwd, "CWD").Replace(b.String())
}

func TestLoadBad(t *testing.T) {
	for _, path := range files(t, "testdata/bad/*.toml", "testdata/bad/*.ini") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			c, err := Load(path)
			if err == nil || c != nil {
				t.Fatalf("Load = %v, %v; want an error only", c, err)
			}
			golden(t, strings.TrimSuffix(path, ".toml")+".err", err.Error()+"\n")
		})
	}
}

func TestLoadOtherFiles(t *testing.T) {
	if _, err := Load("testdata/none.toml"); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "testdata/none.toml") {
		t.Errorf("missing file: %v", err)
	}
}

func TestErrorsAreTyped(t *testing.T) {
	_, err := Parse("x.toml", []byte("[pgvalet]\nauth_file = 'u'\nlisten_port = -1\n"))
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("%T holds no *Error", err)
	}
	if e.File != "x.toml" || e.Line != 3 || e.Key != "pgvalet.listen_port" {
		t.Errorf("got %+v", e)
	}
}

func TestExampleLoads(t *testing.T) {
	c, err := Load("../docs/pgvalet.toml")
	if err != nil {
		t.Fatal(err)
	}
	if n := c.firstIAM(); n == nil || c.ServerTLSSSLMode != SSLVerifyFull || len(c.Users) == 0 {
		t.Error("the example does not show IAM and users")
	}
}

func TestPasswordIsNotPrinted(t *testing.T) {
	c, err := Parse("x.toml", []byte("pgvalet.auth_file='u'\n[databases.a]\nuser='u'\npassword='hunter2'"))
	if err != nil {
		t.Fatal(err)
	}
	d := c.Databases["a"]
	if d.Password.Reveal() != "hunter2" {
		t.Errorf("password is %q", d.Password.Reveal())
	}
	text, err := d.Password.MarshalText()
	for _, s := range []string{fmt.Sprintf("%v %+v %#v %s %q %x", d, *d, *d, d.Password, d.Password, d.Password), string(text)} {
		if err != nil || strings.Contains(s, "hunter2") || strings.Contains(s, "68756e74657232") {
			t.Errorf("printed: %s (%v)", s, err)
		}
	}
}

func FuzzLoad(f *testing.F) {
	for _, pattern := range []string{"testdata/good/*.toml", "testdata/bad/*.toml", "../docs/*.toml"} {
		paths, _ := filepath.Glob(pattern)
		for _, path := range paths {
			data, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("fuzz.toml", data)
		if (c == nil) == (err == nil) {
			t.Fatalf("Parse = %v, %v", c, err)
		}
		if err == nil {
			for _, d := range c.Databases {
				if d.DBName == "" || d.Host == "" || d.ServerAuth == ServerAuthIAM && d.IAMRegion == "" {
					t.Errorf("incomplete database %+v", d)
				}
			}
			c.Rows()
			return
		}
		for line := range strings.SplitSeq(err.Error(), "\n") {
			if !strings.HasPrefix(line, "fuzz.toml:") {
				t.Errorf("%q does not name the file", line)
			}
		}
	})
}

func TestAutoDatabase(t *testing.T) {
	c, err := Parse("x.ini", []byte("[databases]\n* = host=h pool_size=3\nown = host=o dbname=real\n[pgbouncer]\n"))
	if err != nil {
		t.Fatal(err)
	}
	if d := c.Database("own"); d != c.Databases["own"] || d.Host != "o" || d.DBName != "real" {
		t.Errorf("own is %+v", d)
	}
	if d := c.Database("any"); d == nil || d.Name != "any" || d.DBName != "any" || d.Host != "h" || d.PoolSize != 3 || !d.SameServer(c.Database("any")) {
		t.Errorf("any is %+v", d)
	}
	for _, name := range []string{"", strings.Repeat("d", 64)} {
		if d := c.Database(name); d != nil {
			t.Errorf("%q is %+v", name, d)
		}
	}
	if c, _ = Parse("x.ini", []byte("[databases]\n* = dbname=one\n[pgbouncer]\n")); c.Database("any").DBName != "one" {
		t.Errorf("any is %+v", c.Database("any"))
	}
	if c, _ = Parse("x.ini", []byte("[pgbouncer]\n")); c.Database("any") != nil {
		t.Error("there are databases without an entry")
	}
}

func FuzzINI(f *testing.F) {
	paths, _ := filepath.Glob("testdata/*/*.ini")
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if bytes.Contains(data, []byte("%include")) {
			return // which would open files
		}
		c, err := Parse("fuzz.ini", data)
		if (c == nil) == (err == nil) {
			t.Fatalf("Parse = %v, %v", c, err)
		}
		if err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if !strings.HasPrefix(line, "fuzz.ini:") {
					t.Errorf("%q does not name the file", line)
				}
			}
			return
		}
		c.Rows()
		// What is valid in TOML too means the same there.
		var b bytes.Buffer
		if c.WriteTOML(&b) != nil {
			return
		}
		again, err := Parse("fuzz.toml", b.Bytes())
		if err != nil {
			return
		}
		again.INI, again.Path, again.ConfFile, again.Warnings = c.INI, c.Path, c.ConfFile, c.Warnings
		if !reflect.DeepEqual(c, again) {
			t.Errorf("%q\nbecomes\n%s", data, b.String())
		}
	})
}
