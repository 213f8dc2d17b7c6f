package frontend

import (
	"strconv"
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
