package backend

import (
	"slices"
	"strings"
)

// Replication is the kind of a replication connection. It is with a walsender,
// not with an ordinary session, and cannot be shared.
type Replication uint8

// The kinds, in the words of SHOW CLIENTS.
const (
	NoReplication Replication = iota
	LogicalReplication
	PhysicalReplication
)

func (r Replication) String() string { return [...]string{"none", "logical", "physical"}[r] }

// Startup is the value of the startup parameter "replication" that asks for r.
func (r Replication) Startup() string { return [...]string{"no", "database", "yes"}[r] }

// ParseReplication understands the startup parameter as PostgreSQL does: it is
// "database" or a boolean. ok is false for anything else.
func ParseReplication(value string) (r Replication, ok bool) {
	if value == "database" {
		return LogicalReplication, true
	}
	switch v := strings.ToLower(value); {
	case v == "":
		return NoReplication, true
	case v == "1", v == "on", strings.HasPrefix("true", v), strings.HasPrefix("yes", v):
		return PhysicalReplication, true
	case v == "0", v == "of", v == "off", strings.HasPrefix("false", v), strings.HasPrefix("no", v):
		return NoReplication, true
	}
	return NoReplication, false
}

// ForReplication returns a copy of t for one client's replication connection,
// which takes the client's own startup parameters, whatever they are. A
// walsender for physical replication runs no SQL: it gets no ConnectQuery.
func (t *Target) ForReplication(r Replication, params []Parameter) *Target {
	c := *t
	c.Replication = r
	c.Params = []Parameter{{"replication", r.Startup()}}
	for _, p := range t.Params {
		if !slices.ContainsFunc(params, func(q Parameter) bool { return strings.EqualFold(p.Name, q.Name) }) {
			c.Params = append(c.Params, p)
		}
	}
	c.Params = append(c.Params, params...)
	if r == PhysicalReplication {
		c.ConnectQuery = ""
	}
	return &c
}
