package config

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// value reads and writes one field of a configuration struct.
type value struct {
	unit  string          // what the file may say, for the reference page
	set   func(any) error // from what TOML decoded; the error says what was expected
	get   func() string   // as SHOW CONFIG and the reference page write it
	reset func()          // to the default
	def   func() string   // what get returns for the default
	copy  func(value)     // from the same field of another struct
	field any             // a pointer to the field
	path  *string         // the field, if it names a file: relative to the configuration file

	// From the text in an .ini to what set takes. Nil: the text itself.
	ini func(string) (any, error)
	// As SHOW CONFIG writes it, where PgBouncer has another form than get.
	show func() string
}

// unset is the value of a number or duration that an entry of [databases] or
// [users] does not set.
const unset = -1

func newValue[T any](p *T, def T, unit string, parse func(any) (T, error), format func(T) string) value {
	return value{
		unit: unit,
		set: func(v any) error {
			parsed, err := parse(v)
			if err == nil {
				*p = parsed
			}
			return err
		},
		get:   func() string { return format(*p) },
		reset: func() { *p = def },
		def:   func() string { return format(def) },
		copy:  func(from value) { *p = *from.field.(*T) },
		field: p,
	}
}

// wrong is the error for a value of the wrong type or form.
func wrong(expected string, v any) error {
	switch v := v.(type) {
	case string:
		return fmt.Errorf("must be %s, not %q", expected, v)
	case bool, int64, float64:
		return fmt.Errorf("must be %s, not %v", expected, v)
	}
	return fmt.Errorf("must be %s, not %s", expected, typeName(v))
}

func typeName(v any) string {
	switch v.(type) {
	case string:
		return "a string"
	case bool:
		return "a boolean"
	case int64, float64:
		return "a number"
	case time.Time:
		return "a date or time"
	case map[string]any:
		return "a table"
	}
	return "an array"
}

func number(p *int, def, low, high int) value {
	expected := fmt.Sprintf("an integer from %d to %d", low, high)
	parse := func(v any) (int, error) {
		n, ok := v.(int64)
		if !ok || n < int64(low) || n > int64(high) {
			return 0, wrong(expected, v)
		}
		return int(n), nil
	}
	v := newValue(p, def, strings.TrimPrefix(expected, "an "), parse, func(n int) string {
		if n == unset {
			return ""
		}
		return strconv.Itoa(n)
	})
	v.ini = iniInteger
	return v
}

// maxDuration bounds durations far below the overflow of time.Duration.
const maxDuration = 1e9 * time.Second

func seconds(p *time.Duration, def time.Duration) value { return secondsFrom(p, def, 0) }

func secondsFrom(p *time.Duration, def, low time.Duration) value {
	unit := "seconds"
	if low > 0 {
		unit = fmt.Sprintf("seconds, at least %v", low.Seconds())
	}
	parse := func(v any) (time.Duration, error) {
		d, ok := parseDuration(v)
		if !ok {
			return 0, wrong(`a number of seconds or a duration such as "15m"`, v)
		}
		if d < low || d > maxDuration {
			return 0, wrong(fmt.Sprintf("from %.0f to %.0f seconds", low.Seconds(), maxDuration.Seconds()), v)
		}
		return d, nil
	}
	v := newValue(p, def, unit, parse, func(d time.Duration) string {
		if d == unset {
			return ""
		}
		return strconv.FormatFloat(d.Seconds(), 'f', -1, 64)
	})
	v.ini = iniSeconds
	return v
}

// whole is a number of seconds that PgBouncer reads as an integer.
func whole(v value) value {
	v.ini = iniInteger
	return v
}

// parseDuration returns what is too large as more than maxDuration, and what
// is negative as less than 0.
func parseDuration(v any) (time.Duration, bool) {
	var s float64
	switch v := v.(type) {
	case int64:
		s = float64(v)
	case float64:
		s = v
	case string:
		d, err := time.ParseDuration(v)
		return d, err == nil
	default:
		return 0, false
	}
	bounded := max(-1, min(s, maxDuration.Seconds()+1))
	return time.Duration(math.Round(bounded * float64(time.Second))), !math.IsNaN(s)
}

func boolean(p *bool, def bool) value {
	parse := func(v any) (bool, error) {
		switch v {
		case true, int64(1):
			return true, nil
		case false, int64(0):
			return false, nil
		}
		return false, wrong("true or false (or 1 or 0)", v)
	}
	v := newValue(p, def, "boolean", parse, func(b bool) string {
		if b {
			return "1"
		}
		return "0"
	})
	v.ini = iniBoolean
	return v
}

// text refuses the NUL byte: no name, path or query can hold it.
func text(p *string, def string) value {
	return newValue(p, def, "string", parseText, func(s string) string { return s })
}

func parseText(v any) (string, error) {
	s, ok := v.(string)
	if !ok {
		return "", wrong("a string", v)
	}
	if strings.ContainsRune(s, 0) {
		return "", errors.New("must not contain a NUL byte")
	}
	return s, nil
}

func file(p *string, def string) value {
	v := text(p, def)
	v.unit = "path"
	v.path = p
	return v
}

// secret differs from text in that no error repeats the value.
func secret(p *Secret) value {
	parse := func(v any) (Secret, error) {
		if _, ok := v.(string); !ok {
			return "", fmt.Errorf("must be a string, not %s", typeName(v))
		}
		s, err := parseText(v)
		return Secret(s), err
	}
	return newValue(p, "", "string", parse, Secret.String)
}

func list(p *[]string, def ...string) value {
	return newValue(p, def, "list", parseList, func(l []string) string { return strings.Join(l, ",") })
}

func parseList(v any) ([]string, error) {
	const expected = "an array of strings or one comma-separated string"
	var words []string
	switch v := v.(type) {
	case string:
		words = strings.Split(v, ",")
	case []any:
		for _, e := range v {
			s, ok := e.(string)
			if !ok {
				return nil, fmt.Errorf("must be %s, but holds %s", expected, typeName(e))
			}
			if strings.Contains(s, ",") {
				return nil, fmt.Errorf("holds %q, a string with a comma in an array", s)
			}
			words = append(words, s)
		}
	default:
		return nil, wrong(expected, v)
	}
	var l []string
	for _, w := range words {
		w, err := parseText(strings.TrimSpace(w))
		if err != nil {
			return nil, err
		}
		if w != "" {
			l = append(l, w)
		}
	}
	return l, nil
}

func choice[T fmt.Stringer](p *T, def T, all ...T) value {
	names := make([]string, len(all))
	for i, c := range all {
		names[i] = c.String()
	}
	parse := func(v any) (T, error) {
		s, _ := v.(string)
		i := slices.IndexFunc(names, func(n string) bool { return strings.EqualFold(n, s) })
		if i < 0 {
			return def, wrong("one of "+strings.Join(names, ", "), v)
		}
		return all[i], nil
	}
	return newValue(p, def, "one of "+strings.Join(names, ", "), parse, T.String)
}

func sslMode(p *SSLMode, def SSLMode) value {
	return choice(p, def, SSLDisable, SSLAllow, SSLPrefer, SSLRequire, SSLVerifyCA, SSLVerifyFull)
}

func poolMode(p *PoolMode, def PoolMode) value {
	return choice(p, def, PoolModeSession, PoolModeTransaction, PoolModeStatement)
}

func databasePoolMode(p *PoolMode, def PoolMode) value {
	return choice(p, def, PoolModeSession, PoolModeTransaction, PoolModeStatement, PoolModePassthrough)
}

func authType(p *AuthType, def AuthType) value {
	return choice(p, def, AuthTrust, AuthPlain, AuthMD5, AuthScram, AuthAny, AuthCert, AuthHBA, AuthIAM, AuthPAM, AuthLDAP)
}

func fileMode(p *fs.FileMode, def fs.FileMode) value {
	const expected = `octal permissions such as "0770" or 0o770`
	parse := func(v any) (fs.FileMode, error) {
		n, ok := v.(int64)
		if s, isText := v.(string); isText {
			u, err := strconv.ParseUint(strings.TrimPrefix(s, "0o"), 8, 16)
			n, ok = int64(u), err == nil
		}
		if !ok || n < 0 || n > int64(fs.ModePerm) {
			return 0, wrong(expected, v)
		}
		return fs.FileMode(n), nil
	}
	v := newValue(p, def, "octal permissions", parse, func(m fs.FileMode) string { return fmt.Sprintf("%04o", m) })
	v.ini = iniInteger
	v.show = func() string { return strconv.Itoa(int(*p)) }
	return v
}

// tlsVersions are PgBouncer's names, oldest first.
var tlsVersions = []struct {
	name string
	id   uint16
}{
	{"tlsv1.0", tls.VersionTLS10},
	{"tlsv1.1", tls.VersionTLS11},
	{"tlsv1.2", tls.VersionTLS12},
	{"tlsv1.3", tls.VersionTLS13},
}

// secureTLS is the versions that "secure" stands for.
var secureTLS = TLSProtocols{tls.VersionTLS12, tls.VersionTLS13}

func tlsProtocols(p *TLSProtocols) value {
	return newValue(p, secureTLS, "list of tlsv1.0, tlsv1.1, tlsv1.2, tlsv1.3; or secure; or all",
		parseTLSProtocols, TLSProtocols.String)
}

func parseTLSProtocols(v any) (TLSProtocols, error) {
	if s, ok := v.(string); ok {
		v = strings.ReplaceAll(s, ":", ",")
	}
	words, err := parseList(v)
	if err != nil {
		return TLSProtocols{}, err
	}
	if len(words) == 0 {
		return secureTLS, nil
	}
	var chosen [4]bool
	for _, w := range words {
		name, without := strings.CutPrefix(strings.ToLower(w), "!")
		if without && !slices.Contains(chosen[:], true) {
			chosen = [4]bool{true, true, true, true}
		}
		known := false
		for i, t := range tlsVersions {
			if name == t.name || name == "all" || name == "tlsv1" || (name == "secure" || name == "default") && t.id >= secureTLS.Min {
				chosen[i], known = !without, true
			}
		}
		if !known {
			return TLSProtocols{}, wrong("a list of tlsv1.0, tlsv1.1, tlsv1.2, tlsv1.3, or secure, or all", w)
		}
	}
	first := slices.Index(chosen[:], true)
	if first < 0 {
		return TLSProtocols{}, errors.New("must name at least one version")
	}
	last := first
	for last+1 < len(chosen) && chosen[last+1] {
		last++
	}
	if slices.Contains(chosen[last+1:], true) {
		return TLSProtocols{}, wrong("a range of versions without a gap", strings.Join(words, ","))
	}
	return TLSProtocols{tlsVersions[first].id, tlsVersions[last].id}, nil
}

// String returns the range as the file writes it.
func (p TLSProtocols) String() string {
	if p == secureTLS {
		return "secure"
	}
	var names []string
	for _, t := range tlsVersions {
		if p.Min <= t.id && t.id <= p.Max {
			names = append(names, t.name)
		}
	}
	return strings.Join(names, ",")
}
