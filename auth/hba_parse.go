package auth

import (
	"fmt"
	"math/bits"
	"net/netip"
	"path/filepath"
	"strings"
)

// hbaParser reads one line of an HBA file. Its methods leave w at the word
// behind what they have read; a problem that is not empty says what is wrong.
type hbaParser struct {
	file  string
	ident *Ident
	read  func(path string) ([]byte, error)
	w     *words
}

var hbaKinds = map[string]hbaKind{"local": hbaLocal, "host": hbaHost, "hostssl": hbaHostSSL, "hostnossl": hbaHostNoSSL}

var hbaMethods = map[string]Method{
	"reject": MethodReject, "trust": MethodTrust, "password": MethodPassword, "md5": MethodMD5,
	"scram-sha-256": MethodScram, "cert": MethodCert, "peer": MethodPeer, "ldap": MethodLDAP, "iam": MethodIAM,
}

func (p *hbaParser) rule() (r *HBARule, problem string) {
	w := p.w
	kind, ok := hbaKinds[w.text]
	if w.kind != wordPlain || !ok {
		return nil, "expected local, host, hostssl or hostnossl, found " + w.found()
	}
	r = &HBARule{kind: kind}
	w.next()
	if r.databases, problem = p.names("database", p.file, w, 0); problem != "" {
		return nil, problem
	}
	if r.users, problem = p.names("user", p.file, w, 0); problem != "" {
		return nil, problem
	}
	if kind != hbaLocal {
		if problem = p.addresses(r); problem != "" {
			return nil, problem
		}
	}
	if r.Method, ok = hbaMethods[w.text]; w.kind != wordPlain || !ok {
		return nil, "expected a method that is supported, found " + w.found()
	}
	if r.Method == MethodLDAP {
		if r.LDAP, problem = ParseLDAP(w.rest); problem != "" {
			return nil, problem
		}
		return r, ""
	}
	w.next()
	if problem = p.options(r); problem != "" {
		return nil, problem
	}
	return r, ""
}

// options reads what stands behind the method.
func (p *hbaParser) options(r *HBARule) (problem string) {
	w := p.w
	if w.kind == wordEnd {
		return ""
	}
	name, ok := strings.CutPrefix(w.text, "map=")
	if !ok {
		return "the only option is map=NAME, found " + w.found()
	}
	if w.kind == wordPlain && name == "" && strings.HasPrefix(w.rest, `"`) { // map="NAME"
		w.next()
		name = w.text
	}
	if r.Map = p.ident.Map(name); r.Map == nil {
		return fmt.Sprintf("auth_ident_file has no map %q", name)
	}
	w.next()
	if w.kind != wordEnd {
		return "nothing is expected after map=NAME, found " + w.found()
	}
	return ""
}

// maxNested is how deep files of names may name other files.
const maxNested = 8

// names reads a list of databases or users, of a line or of a whole file.
func (p *hbaParser) names(what, file string, w *words, depth int) (n hbaNames, problem string) {
	for {
		switch {
		case !w.name():
			return n, "expected the name of a " + what + ", found " + w.found()
		case w.is("all"):
			n.all = true
		case what == "database" && w.is("sameuser"):
			n.sameUser = true
		case what == "database" && w.is("replication"):
			n.replication = true
		case what == "database" && (w.is("samerole") || w.is("samegroup")):
			return n, w.text + " is not supported"
		case w.kind == wordPlain && (w.text[0] == '+' || w.text[0] == '/'):
			return n, "groups and regular expressions are not supported: " + w.found()
		case w.kind == wordPlain && w.text[0] == '@':
			more, problem := p.namesIn(what, filepath.Join(filepath.Dir(file), w.text[1:]), w.text[1:], depth+1)
			if problem != "" {
				return n, problem
			}
			n.add(more)
		default:
			n.names = append(n.names, w.text)
		}
		w.next()
		if w.kind != wordComma {
			return n, ""
		}
		w.next()
	}
}

func (n *hbaNames) add(more hbaNames) {
	n.all = n.all || more.all
	n.sameUser = n.sameUser || more.sameUser
	n.replication = n.replication || more.replication
	n.names = append(n.names, more.names...)
}

// namesIn reads a file of names.
func (p *hbaParser) namesIn(what, path, asWritten string, depth int) (n hbaNames, problem string) {
	if filepath.IsAbs(asWritten) {
		path = asWritten
	}
	if depth > maxNested {
		return n, "@" + asWritten + ": files of names name each other too deeply"
	}
	data, err := p.read(path)
	if err != nil {
		return n, "@" + asWritten + ": " + err.Error()
	}
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		w := readWords(line)
		for w.kind != wordEnd {
			more, problem := p.names(what, path, w, depth)
			if problem != "" {
				return n, fmt.Sprintf("%s:%d: %s", path, number, problem)
			}
			n.add(more)
		}
	}
	return n, ""
}

// addresses reads the addresses of a rule. Bits behind the mask are an error:
// nobody knows which of the two was meant, and in PgBouncer such a line matches
// nothing.
func (p *hbaParser) addresses(r *HBARule) (problem string) {
	w := p.w
	if w.is("all") {
		r.anyAddress = true
		w.next()
		return ""
	}
	if !w.name() {
		return "expected an address, found " + w.found()
	}
	text := w.text
	w.next()
	if strings.Contains(text, "/") {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return fmt.Sprintf("expected an address and a number of bits, found %q", text)
		}
		r.addresses = prefix
	} else {
		addr, err := netip.ParseAddr(text)
		if err != nil || addr.Zone() != "" {
			return fmt.Sprintf("expected all or an address (host names are not supported), found %q", text)
		}
		length, ok := maskLength(w.text, addr)
		if !w.name() || !ok {
			return "expected a mask after an address without a number of bits, found " + w.found()
		}
		w.next()
		r.addresses = netip.PrefixFrom(addr, length)
	}
	if r.addresses.Addr().Is4In6() {
		return fmt.Sprintf("%s is an IPv4 address in IPv6 clothes: write it as IPv4", text)
	}
	if masked := r.addresses.Masked(); masked != r.addresses {
		return fmt.Sprintf("%s has bits outside of its mask, did you mean %s?", r.addresses, masked)
	}
	return ""
}

// maskLength returns the number of leading bits of a mask for addr.
func maskLength(mask string, addr netip.Addr) (length int, ok bool) {
	m, err := netip.ParseAddr(mask)
	if err != nil || m.BitLen() != addr.BitLen() || m.Zone() != "" {
		return 0, false
	}
	ended := false
	for _, b := range m.AsSlice() {
		ones := bits.LeadingZeros8(^b)
		if b<<ones != 0 || ended && b != 0 {
			return 0, false
		}
		length += ones
		ended = ended || ones < 8
	}
	return length, true
}
