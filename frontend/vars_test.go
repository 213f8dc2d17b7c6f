package frontend

import (
	"strconv"
	"strings"
	"testing"

	"github.com/pgvalet/pgvalet/backend"
)

// Clients that believe the same of their parameters share it, and no others do.
func TestVarSets(t *testing.T) {
	var vs varSets
	known := func(v string) backend.Var { return backend.Var{Value: v, Known: true} }
	unlike := []backend.Vars{
		{{}, {}, {}},
		{known(""), {}, {}},
		{{}, known(""), {}},
		{known("UTF8"), {}, {}},
		{known("UTF8"), known("ISO"), {}},
		{known("UTF8ISO"), {}, {}},
		{known("UTF8"), {}, known("ISO")},
	}
	sets := make(map[*varSet]int)
	for i, vars := range unlike {
		v := vs.of(append(backend.Vars{}, vars...))
		if j, taken := sets[v]; taken {
			t.Errorf("%v and %v are taken for the same", vars, unlike[j])
		}
		sets[v] = i
		if again := vs.of(append(backend.Vars{}, vars...)); again != v {
			t.Errorf("%v is kept twice", vars)
		}
	}
	for i := range 2 * maxVarSets {
		vs.of(backend.Vars{known(strconv.Itoa(i))})
		if len(vs.byText) > maxVarSets {
			t.Fatalf("%d sets are kept", len(vs.byText))
		}
	}
}

// TestVarsInLog: what is set for a client is in the log, in PgBouncer's words,
// once.
func TestVarsInLog(t *testing.T) {
	r := newRig(t, "")
	c := r.client("DateStyle", "german", "application_name", "it's")
	for range 2 {
		c.do("select 1")
	}
	said := map[string]string{}
	for _, e := range r.logs.FilterMessageSnippet("varcache_").All() {
		if said[e.Message] = e.LoggerName; len(said) > 2 {
			t.Errorf("logged: %s", e.Message)
		}
	}
	for message, prefix := range map[string]string{
		"varcache_apply: SET DateStyle='german';SET application_name='it''s';":                     "S-",
		"varcache_set_canonical: setting DateStyle to its canonical version german -> German, DMY": "C-",
	} {
		if !strings.HasPrefix(said[message], prefix) {
			t.Errorf("no line of %s: %s, but %v", prefix, message, said)
		}
	}
	if n := r.logs.FilterMessageSnippet("varcache_").Len(); n != 2 {
		t.Errorf("%d lines", n)
	}
}
