package config

import (
	"crypto/tls"
	"fmt"
	"slices"
	"strings"
)

// cipherClasses are the words that stand for many cipher suites: PgBouncer's
// short cuts, and the classes of OpenSSL's lists that hold all that is left of
// them in Go.
var cipherClasses = []string{"default", "secure", "fast", "normal", "all", "high", "eecdh", "keecdh", "aecdsa", "arsa"}

// CipherSuites returns the suites of TLS 1.2 and older that a *_tls_ciphers
// setting names, in no order: crypto/tls has its own. nil stands for those that
// it takes without being told. The list has OpenSSL's form. What it excludes
// (!aNULL) beside suites by name is not in Go anyway; a name that Go does not
// have is an error.
func CipherSuites(list string) ([]uint16, error) {
	names := map[string]uint16{}
	var usual, suites []uint16
	for _, s := range tls.CipherSuites() {
		if slices.Contains(s.SupportedVersions, tls.VersionTLS12) {
			names[opensslName(s.Name)] = s.ID
			usual = append(usual, s.ID)
		}
	}
	for _, s := range tls.InsecureCipherSuites() {
		names[opensslName(s.Name)] = s.ID
	}
	var excluded []uint16
	isUsual := true
	for _, word := range strings.FieldsFunc(list, func(r rune) bool { return strings.ContainsRune(": ,", r) }) {
		id, known := names[strings.TrimLeft(word, "!-+")]
		switch {
		case strings.ContainsAny(word[:1], "!-"):
			if known {
				excluded = append(excluded, id)
				isUsual = false
			}
		case strings.ContainsAny(word[:1], "+@"): // an order
		case known:
			suites = append(suites, id)
			isUsual = false
		case slices.Contains(cipherClasses, strings.ToLower(word)):
			suites = append(suites, usual...)
		default:
			return nil, fmt.Errorf("names no cipher suite of TLS 1.2 that is supported: %q", word)
		}
	}
	if isUsual {
		return nil, nil
	}
	suites = slices.DeleteFunc(suites, func(id uint16) bool { return slices.Contains(excluded, id) })
	if len(suites) == 0 {
		return nil, fmt.Errorf("leaves no cipher suite: %q", list)
	}
	slices.Sort(suites)
	return slices.Compact(suites), nil
}

// opensslName turns the official name of a suite into OpenSSL's.
func opensslName(name string) string {
	name = strings.TrimPrefix(name, "TLS_")
	name = strings.TrimPrefix(name, "RSA_WITH_") // the exchange of keys that goes without saying
	name = strings.NewReplacer("_WITH_", "-", "AES_128", "AES128", "AES_256", "AES256", "_CBC", "",
		"POLY1305_SHA256", "POLY1305", "3DES_EDE", "DES", "RC4_128", "RC4", "_", "-").Replace(name)
	return strings.Replace(name, "DES-SHA", "DES-CBC3-SHA", 1)
}
