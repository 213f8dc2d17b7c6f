package config

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
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

func files(t *testing.T, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("no files %s: %v", pattern, err)
	}
	return paths
}

func TestLoadGood(t *testing.T) {
	for _, path := range files(t, "testdata/good/*.toml") {
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
	for _, r := range c.Rows() {
		if r.Value != r.Default {
			fmt.Fprintf(&b, "%s = %s\n", r.Key, r.Value)
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
	for _, d := range c.databases() {
		entry("databases."+d.Name, d.table(), newDatabase("").table())
	}
	for _, name := range slices.Sorted(maps.Keys(c.Users)) {
		entry("users."+name, c.Users[name].table(), newUser("").table())
	}
	base := filepath.Dir(filepath.Dir(c.Path))
	if !filepath.IsAbs(base) {
		t.Errorf("Path %q is not absolute", c.Path)
	}
	return strings.ReplaceAll(b.String(), base, "BASE")
}

func TestLoadBad(t *testing.T) {
	for _, path := range files(t, "testdata/bad/*.toml") {
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
	if _, err := Load("pgbouncer.INI"); err == nil || !strings.Contains(err.Error(), "pgbouncer.INI: this version reads TOML files only") {
		t.Errorf("ini: %v", err)
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
