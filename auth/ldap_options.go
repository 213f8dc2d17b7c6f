package auth

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// LDAP is what the options of the method ldap say: which servers know the users'
// passwords, and how to ask them. It is immutable and prints redacted.
type LDAP struct {
	redacted
	o *ldapOptions
}

type ldapOptions struct {
	scheme   string   // ldap or ldaps
	servers  []string // hosts
	port     int      // 0: the scheme's
	startTLS bool

	// Either the name to bind as is made of the user's,
	prefix, suffix string
	// … or it is looked for.
	baseDN, bindDN, bindPassword string
	attribute, filter            string
	scope                        int
}

// ldapScopes are the words of LDAP URLs (RFC 4516), at the numbers of the
// protocol.
var ldapScopes = []string{"base", "one", "sub"}

const subtree = 2

// ParseLDAP reads the options of PgBouncer's auth_ldap_options and of the method
// ldap in an HBA file, which are PostgreSQL's: name=value pairs between white
// space or commas, either in double quotes or without. A problem that is not
// empty says what is wrong, and does not repeat values.
func ParseLDAP(options string) (l *LDAP, problem string) {
	o := &ldapOptions{scheme: "ldap", scope: subtree}
	seen := map[string]bool{}
	rest := options
	for {
		rest = strings.TrimLeft(rest, blanks+",")
		if rest == "" || rest[0] == '#' {
			break
		}
		var name, value string
		if name, rest, problem = ldapWord(rest, "="); problem != "" {
			return nil, problem
		}
		value, ok := strings.CutPrefix(rest, "=")
		if !ok {
			return nil, fmt.Sprintf("expected name=value, found %q without a value", name)
		}
		if value, rest, problem = ldapWord(value, blanks+","); problem != "" {
			return nil, name + ": " + problem
		}
		if value == "" {
			return nil, name + " is empty"
		}
		seen[name] = true
		if problem = o.set(name, value); problem != "" {
			return nil, problem
		}
	}
	if problem = o.check(seen); problem != "" {
		return nil, problem
	}
	return &LDAP{o: o}, ""
}

// ldapWord takes a word off s, in quotes or up to one of the characters in end.
func ldapWord(s, end string) (word, rest, problem string) {
	if strings.HasPrefix(s, `"`) {
		word, rest, ok := unquote(s[1:])
		if !ok {
			return "", "", "a quote that nothing closes"
		}
		return word, rest, ""
	}
	i := strings.IndexAny(s, end)
	if i < 0 {
		i = len(s)
	}
	return s[:i], s[i:], ""
}

func (o *ldapOptions) set(name, value string) (problem string) {
	switch name {
	case "ldapserver":
		o.servers = strings.Fields(value)
	case "ldapport":
		n, err := strconv.ParseUint(value, 10, 16)
		if err != nil || n == 0 {
			return "ldapport must be a port"
		}
		o.port = int(n)
	case "ldapscheme":
		if value != "ldap" && value != "ldaps" {
			return "ldapscheme must be ldap or ldaps"
		}
		o.scheme = value
	case "ldaptls":
		o.startTLS = value == "1"
	case "ldapprefix":
		o.prefix = value
	case "ldapsuffix":
		o.suffix = value
	case "ldapbasedn":
		o.baseDN = value
	case "ldapbinddn":
		o.bindDN = value
	case "ldapbindpasswd":
		o.bindPassword = value
	case "ldapsearchattribute":
		o.attribute = value
	case "ldapsearchfilter":
		o.filter = value
	case "ldapurl":
		return o.setURL(value)
	default:
		return fmt.Sprintf("there is no LDAP option %q", name)
	}
	return ""
}

// setURL reads scheme://host:port/basedn?attribute?scope?filter.
func (o *ldapOptions) setURL(text string) (problem string) {
	const malformed = "ldapurl must be ldap[s]://host[:port]/basedn[?attribute[?scope[?filter]]]"
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "ldap" && u.Scheme != "ldaps" || u.User != nil || u.Fragment != "" {
		return malformed
	}
	o.scheme = u.Scheme
	if host := u.Hostname(); host != "" {
		o.servers = []string{host}
	}
	if p := u.Port(); p != "" {
		if problem := o.set("ldapport", p); problem != "" {
			return problem
		}
	}
	o.baseDN = strings.TrimPrefix(u.Path, "/")
	for i, part := range strings.SplitN(u.RawQuery, "?", 3) {
		if part, err = url.PathUnescape(part); err != nil {
			return malformed
		}
		switch {
		case part == "":
		case i == 0:
			o.attribute, _, _ = strings.Cut(part, ",")
		case i == 1:
			if o.scope = slices.Index(ldapScopes, part); o.scope < 0 {
				return "the scope in ldapurl must be base, one or sub"
			}
		default:
			o.filter = part
		}
	}
	return ""
}

// check refuses what contradicts itself.
func (o *ldapOptions) check(seen map[string]bool) (problem string) {
	simple := seen["ldapprefix"] || seen["ldapsuffix"]
	switch {
	case len(o.servers) == 0:
		return "ldap needs ldapserver, or a host in ldapurl"
	case simple && (o.baseDN != "" || o.bindDN != "" || o.bindPassword != "" || o.attribute != "" || o.filter != ""):
		return "ldapprefix and ldapsuffix cannot be mixed with the options of a search"
	case !simple && o.baseDN == "":
		return "ldap needs ldapbasedn, ldapprefix or ldapsuffix"
	case o.attribute != "" && o.filter != "":
		return "ldapsearchattribute and ldapsearchfilter exclude each other"
	case o.startTLS && o.scheme == "ldaps":
		return "ldaptls cannot be used with ldaps, which is TLS already"
	}
	return ""
}

// urls are the servers in the order in which they are tried.
func (o *ldapOptions) urls() []string {
	var all []string
	for _, host := range o.servers {
		switch {
		case o.port != 0:
			host = net.JoinHostPort(host, strconv.Itoa(o.port))
		case strings.Contains(host, ":"):
			host = "[" + host + "]"
		}
		all = append(all, o.scheme+"://"+host)
	}
	return all
}
