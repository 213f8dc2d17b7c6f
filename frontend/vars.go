package frontend

import (
	"sync"

	"go.uber.org/zap"

	"github.com/pgvalet/pgvalet/backend"
)

// varSet is what clients believe of the tracked parameters. Clients that believe
// the same have the same one: most programs open all their connections alike.
// Immutable.
type varSet struct {
	vars backend.Vars
	key  string // vars.Key: what makes these clients' statements differ from those of others
}

// varSets are those in use, as far as is known.
type varSets struct {
	mu     sync.Mutex // guards byText
	byText map[string]*varSet
}

// maxVarSets bounds varSets: clients can make up values. Behind it they are
// forgotten, and those that come later share new ones.
const maxVarSets = 1000

// of returns the set for vars, which the caller gives away.
func (vs *varSets) of(vars backend.Vars) *varSet {
	var text []byte
	for i := range vars {
		if vars[i].Known {
			text = append(text, vars[i].Value...) // has no zero bytes
			text = append(text, 1)
		}
		text = append(text, 0)
	}
	vs.mu.Lock()
	defer vs.mu.Unlock()
	if v := vs.byText[string(text)]; v != nil {
		return v
	}
	if len(vs.byText) >= maxVarSets || vs.byText == nil {
		vs.byText = make(map[string]*varSet)
	}
	v := &varSet{vars, vars.Key()}
	vs.byText[string(text)] = v
	return v
}

// debugging reports whether what becomes of the tracked parameters is logged.
func (s *session) debugging() bool { return s.w.sessions.log.Core().Enabled(zap.DebugLevel) }

// logCanonical says where the server spells a parameter otherwise than the client.
func (s *session) logCanonical() {
	for i, name := range s.w.sessions.pools.Tracked().Names() {
		if have, want := s.srv.Vars[i], s.believes.vars[i]; have.Known && want.Known && have != want {
			s.log().Debug("varcache_set_canonical: setting " + name + " to its canonical version " + want.Value + " -> " + have.Value)
		}
	}
}
