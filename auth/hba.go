package auth

import (
	"net/netip"
	"os"
	"slices"
	"strings"
)

// HBA is the content of an auth_hba_file: who may log in from where, and how.
// It is immutable. A nil HBA lets nobody in.
type HBA struct {
	rules []*HBARule
}

// HBARule is one line of the file.
type HBARule struct {
	Line   int
	Method Method
	Map    *IdentMap // for cert and peer, nil if there is none
	LDAP   *LDAP     // for ldap

	kind       hbaKind
	databases  hbaNames
	users      hbaNames
	anyAddress bool
	addresses  netip.Prefix
}

// hbaKind is the first word of a rule.
type hbaKind uint8

const (
	hbaLocal hbaKind = iota
	hbaHost
	hbaHostSSL
	hbaHostNoSSL
)

// hbaNames is a list of databases or users.
type hbaNames struct {
	all, sameUser, replication bool
	names                      []string
}

func (n *hbaNames) match(name, user string) bool {
	return n.all || n.sameUser && name == user || slices.Contains(n.names, name)
}

// HBAClient is what a rule looks at.
type HBAClient struct {
	Addr        netip.Addr // the zero Addr for a unix socket
	TLS         bool
	Replication bool   // a physical replication connection, which has no database
	Database    string // the console is "pgbouncer", whatever the client called it
	User        string
}

// Find returns the first rule for a client, nil if there is none.
func (h *HBA) Find(c HBAClient) *HBARule {
	if h == nil {
		return nil
	}
	c.Addr = c.Addr.Unmap().WithZone("")
	for _, r := range h.rules {
		if r.match(&c) {
			return r
		}
	}
	return nil
}

func (r *HBARule) match(c *HBAClient) bool {
	local := !c.Addr.IsValid()
	switch {
	case local != (r.kind == hbaLocal),
		r.kind == hbaHostSSL && !c.TLS,
		r.kind == hbaHostNoSSL && c.TLS,
		!local && !r.anyAddress && !r.addresses.Contains(c.Addr):
		return false
	case c.Replication:
		return r.databases.replication && r.users.match(c.User, "")
	}
	return r.databases.match(c.Database, c.User) && r.users.match(c.User, "")
}

// LoadHBA reads the file at path with ParseHBA.
func LoadHBA(path string, ident *Ident) (*HBA, []*LineError, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	h, bad := ParseHBA(data, path, ident, os.ReadFile)
	return h, bad, nil
}

// ParseHBA reads PgBouncer's auth_hba_file grammar, which is a part of
// PostgreSQL's pg_hba.conf:
//
//	local                     DATABASES USERS           METHOD [OPTIONS]
//	host|hostssl|hostnossl    DATABASES USERS ADDRESSES METHOD [OPTIONS]
//
// DATABASES and USERS are names, separated by commas, in double quotes or
// without, or all, or @FILE for a file with more of them, relative to the file
// that names it; DATABASES may also be sameuser and replication. ADDRESSES is
// all, an address with the number of its leading bits, or an address and a mask.
// The first line that fits a client decides. OPTIONS is map=NAME, a map of ident
// for cert and peer, or what ParseLDAP reads for ldap. @FILE is read with read. A method that cannot succeed, such as peer over
// TCP, is no error: nobody gets past such a line.
//
// Lines that cannot be used are left out and returned, each as an error that
// begins with name, which is the file's, and the line. PgBouncer warns of such
// lines and goes on without them. That is safe as long as the line would have
// let somebody in, and no more: whoever a broken reject was to keep out gets to
// the lines below it, and the same is true of a broken line with a strict method
// above a lax one. So a caller can refuse a file with any bad line, and ought to
// refuse one with a line that Rejects.
func ParseHBA(data []byte, name string, ident *Ident, read func(path string) ([]byte, error)) (*HBA, []*LineError) {
	h := &HBA{}
	var bad []*LineError
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		p := hbaParser{file: name, ident: ident, read: read, w: readWords(line)}
		if p.w.kind == wordEnd {
			continue
		}
		r, problem := p.rule()
		if problem != "" {
			bad = append(bad, &LineError{File: name, Line: number, Message: problem, Rejects: rejects(line)})
			continue
		}
		r.Line = number
		h.rules = append(h.rules, r)
	}
	return h, bad
}

// rejects reports whether a line that cannot be parsed has the word reject, in
// any spelling.
func rejects(line string) bool {
	line, _, _ = strings.Cut(line, "#")
	return strings.Contains(strings.ToLower(line), "reject")
}
