package main

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/pgvalet/pgvalet/"

// production lists the folders of what is shipped, lowest first: each imports
// only some of those before it.
var production = []string{"config", "backend/wire", "backend/evloop", "auth", "backend", "pool", "frontend"}

// layers says which folders of pgvalet a folder may import. A folder below one
// of these belongs to it. In tests everything may import backendtest.
var layers = map[string]struct {
	may    []string
	reason string
}{
	"config":              {nil, "what a file means does not depend on what is done with it"},
	"backend/wire":        {nil, "framing is bytes to bytes, and both sides share it"},
	"backend/evloop":      {nil, "the loop moves bytes for both sides and knows neither"},
	"auth":                {production[:2], "credentials are parsed and proven without connections"},
	"backend":             {production[:4], "a server does not know who uses it"},
	"pool":                {production[:5], "a pool lends servers to anybody, not only to clients"},
	"frontend":            {production[:6], "clients do not know the process they live in"},
	"cmd/pgvalet":         {production, "what is shipped contains neither test support nor benchmarks"},
	"cmd/pgvalet-demo":    {append(production, "backend/backendtest"), "the demo wires the product to the stand-ins"},
	"bench":               {append(production, "backend/backendtest"), "benchmarks measure the product beside the stand-ins"},
	"backend/backendtest": {nil, "a far end that shares code with the near end shares its mistakes"},
}

// fences says who alone may import what is not ours: a path, or with a slash
// at the end everything below it.
var fences = []struct {
	what   string
	only   []string
	tests  []string // whose tests may too
	reason string
}{
	{"github.com/jackc/puddle/v2", []string{"pool"}, nil, "one place decides who gets a server"},
	{"github.com/aws/", []string{"auth"}, []string{"backend/backendtest", "cmd/pgvalet"}, "AWS is a way to get a password, and nothing else knows it"},
	{"github.com/xdg-go/scram", []string{"auth"}, nil, "secrets are handled in one place"},
	{"github.com/go-ldap/ldap/v3", []string{"auth"}, nil, "secrets are handled in one place"},
	{"github.com/BurntSushi/toml", []string{"config"}, nil, "what leaves config is typed and validated"},
	{"github.com/prometheus/", []string{"cmd"}, nil, "metrics and console read one snapshot; its form is for the edge"},
	{"os/signal", []string{"cmd", "bench"}, nil, "only main owns the process"},
	{
		"github.com/fergusstrange/embedded-postgres",
		[]string{"backend/backendtest", "cmd/pgvalet-demo"},
		nil, "what is shipped downloads nothing",
	},
}

// vague are names for folders of things that have nothing in common.
var vague = []string{
	"base", "common", "core", "handler", "handlers", "helper", "helpers", "interfaces", "lib",
	"manager", "misc", "models", "pkg", "types", "util", "utils",
}

// below reports whether folder is one of the roots or lies below one.
func below(folder string, roots ...string) bool {
	return slices.ContainsFunc(roots, func(root string) bool {
		return folder == root || strings.HasPrefix(folder, root+"/")
	})
}

// layerOf returns the nearest of layers that holds folder, or "".
func layerOf(folder string) string {
	for ; folder != "."; folder = path.Dir(folder) {
		if _, ok := layers[folder]; ok {
			return folder
		}
	}
	return ""
}

// checkFolder returns what is wrong with a folder that holds Go files.
func checkFolder(folder string) error {
	for name := range strings.SplitSeq(folder, "/") {
		if slices.Contains(vague, name) {
			return fmt.Errorf("%s: %q says nothing about what is in it", folder, name)
		}
	}
	if layerOf(folder) == "" {
		return fmt.Errorf("%s: the layout has no such folder", folder)
	}
	return nil
}

// checkImport returns what is wrong with file, relative to the top of the
// module, importing imported.
func checkImport(file, imported string) error {
	folder, test := path.Dir(file), strings.HasSuffix(file, "_test.go")
	if ours, ok := strings.CutPrefix(imported, module); ok {
		from, to := layerOf(folder), layerOf(ours)
		layer := layers[from]
		if from == to || slices.Contains(layer.may, to) || test && to == "backend/backendtest" {
			return nil
		}
		return fmt.Errorf("%s: imports %s: %s", file, ours, layer.reason)
	}
	for _, f := range fences {
		fenced := imported == f.what || strings.HasSuffix(f.what, "/") && strings.HasPrefix(imported, f.what)
		allowed := below(folder, f.only...) || test && below(folder, f.tests...)
		if fenced && !allowed {
			return fmt.Errorf("%s: imports %s, which is for %s: %s", file, imported, strings.Join(f.only, " and "), f.reason)
		}
	}
	return nil
}

// TestImports reads the files themselves, those for other systems included,
// so that a cached result of the test is never older than they are.
func TestImports(t *testing.T) {
	const top = "../.."
	seen := make(map[string]bool) // folders with Go files
	walk := func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && name != top && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".")) {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		file, err := filepath.Rel(top, name)
		if err != nil {
			return err
		}
		file = filepath.ToSlash(file)
		if folder := path.Dir(file); !seen[folder] {
			seen[folder] = true
			if err := checkFolder(folder); err != nil {
				t.Error(err)
			}
		}
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if err := checkImport(file, imported); err != nil {
				t.Error(err)
			}
		}
		return nil
	}
	if err := filepath.WalkDir(top, walk); err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{"config", "backend/wire", "cmd/pgvalet"} {
		if !seen[folder] {
			t.Errorf("no Go files found in %s", folder)
		}
	}
}

func TestCheckImport(t *testing.T) {
	tests := []struct {
		file, imported string
		ok             bool
	}{
		{"cmd/pgvalet/main.go", module + "frontend", true},
		{"frontend/session.go", module + "pool", true},
		{"frontend/session.go", module + "config", true},
		{"pool/lease.go", module + "backend", true},
		{"backend/dial.go", module + "auth", true},
		{"backend/dial.go", module + "backend/wire", true},
		{"frontend/relay.go", module + "backend/evloop", true},
		{"auth/iam/token.go", module + "auth", true},

		{"pool/lease.go", module + "frontend", false},
		{"backend/dial.go", module + "pool", false},
		{"auth/scram.go", module + "backend", false},
		{"auth/iam/token.go", module + "backend", false},
		{"config/load.go", module + "auth", false},
		{"backend/wire/wire.go", module + "config", false},
		{"backend/wire/wire.go", module + "backend", false},
		{"backend/evloop/loop.go", module + "backend/wire", false},
		{"frontend/session.go", module + "cmd/pgvalet/metrics", false},

		{"pool/pool.go", module + "backend/backendtest", false},
		{"pool/pool_test.go", module + "backend/backendtest", true},
		{"cmd/pgvalet/main.go", module + "backend/backendtest", false},
		{"cmd/pgvalet/main.go", module + "backend/backendtest/pgfetch", false},
		{"cmd/pgvalet-demo/main.go", module + "backend/backendtest", true},
		{"bench/pgbench.go", module + "backend/backendtest", true},
		{"backend/backendtest/rds.go", module + "auth", false},

		{"pool/pool.go", "github.com/jackc/puddle/v2", true},
		{"frontend/session.go", "github.com/jackc/puddle/v2", false},
		{"auth/iam.go", "github.com/aws/aws-sdk-go-v2/config", true},
		{"backend/dial.go", "github.com/aws/aws-sdk-go-v2/aws", false},
		{"backend/backendtest/sigv4.go", "github.com/aws/aws-sdk-go-v2/feature/rds/auth", false},
		{"backend/backendtest/sigv4_test.go", "github.com/aws/aws-sdk-go-v2/feature/rds/auth", true},
		{"frontend/login.go", "github.com/xdg-go/scram", false},
		{"cmd/pgvalet/main.go", "github.com/BurntSushi/toml", false},
		{"frontend/listen.go", "os/signal", false},
		{"cmd/pgvalet/signals.go", "os/signal", true},
		{"frontend/listen.go", "os", true},
	}
	for _, tt := range tests {
		if err := checkImport(tt.file, tt.imported); (err == nil) != tt.ok {
			t.Errorf("%s imports %s: got %v, want ok %v", tt.file, tt.imported, err, tt.ok)
		}
	}
}

func TestCheckFolder(t *testing.T) {
	for folder, ok := range map[string]bool{
		"frontend":          true,
		"auth/iam":          true,
		"backend/evloop":    true,
		"cmd/pgvalet-demo":  true,
		".":                 false,
		"cmd/other":         false,
		"storage":           false,
		"frontend/util":     false,
		"pool/common/types": false,
	} {
		if err := checkFolder(folder); (err == nil) != ok {
			t.Errorf("%s: got %v, want ok %v", folder, err, ok)
		}
	}
}
