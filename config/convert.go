package config

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/BurntSushi/toml"
)

// WriteTOML writes c as a TOML file that loads to the same settings, databases,
// users and peers: everything that differs from pgvalet's defaults, passwords
// included. It returns an error for what TOML cannot say, a text that is not
// UTF-8; what c says besides may contradict itself, which Parse refuses in TOML.
func (c *Config) WriteTOML(w io.Writer) error {
	b := &tomlWriter{Writer: bufio.NewWriter(w)}
	fmt.Fprintf(b, "# What %s says, in pgvalet's form. Settings that are not here\n# have their defaults, which are PgBouncer's too.\n", c.Path)
	for _, warning := range c.Warnings {
		fmt.Fprintf(b, "#\n# %s\n", warning)
	}
	b.WriteString("\n[pgvalet]\n")
	for _, g := range c.groups() {
		title := "\n# " + g.title + "\n"
		for _, s := range g.settings {
			if !c.mustWrite(s) {
				continue
			}
			b.WriteString(title)
			title = ""
			b.setting(toml.Key{"pgvalet"}, s)
		}
	}
	for _, d := range c.Entries() {
		fmt.Fprintf(b, "\n[%s]\n", toml.Key{"databases", d.Name})
		b.table(toml.Key{"databases", d.Name}, c.said(d).table())
	}
	for _, name := range slices.Sorted(maps.Keys(c.Users)) {
		fmt.Fprintf(b, "\n[%s]\n", toml.Key{"users", name})
		b.table(toml.Key{"users", name}, c.Users[name].table())
	}
	for _, id := range slices.Sorted(maps.Keys(c.Peers)) {
		fmt.Fprintf(b, "\n[peers.%d]\n", id)
		b.table(toml.Key{"peers", strconv.Itoa(id)}, c.Peers[id].table())
	}
	if err := b.Flush(); err != nil {
		return err
	}
	return b.err
}

// mustWrite reports whether TOML must hold s to mean the same. The modes of TLS
// have defaults that depend on the rest of the file, and are always written.
func (c *Config) mustWrite(s setting) bool {
	switch {
	case s.alias != "", s.name == "conffile" && c.ConfFile == c.Path:
		return false
	case s.name == "client_tls_sslmode", s.name == "server_tls_sslmode":
		return true
	}
	return s.get() != s.def()
}

// said returns d without what complete has added to it.
func (c *Config) said(d *Database) *Database {
	s := *d
	iamHost := normalName(d.Host)
	if d.DBName == d.Name {
		s.DBName = ""
	}
	if d.Host == c.UnixSocketDir {
		s.Host = ""
	}
	name := d.Host
	if d.IAMHost != iamHost {
		name = d.IAMHost
	}
	if d.ServerTLSName == name {
		s.ServerTLSName = ""
	}
	if region, _ := RegionFromHost(d.IAMHost); d.IAMRegion == region {
		s.IAMRegion = ""
	}
	if d.IAMHost == iamHost {
		s.IAMHost = ""
	}
	if d.IAMPort == d.Port {
		s.IAMPort = unset
	}
	return &s
}

// tomlWriter remembers the first value that TOML cannot hold.
type tomlWriter struct {
	*bufio.Writer
	err error
}

func (b *tomlWriter) table(section toml.Key, table []setting) {
	for _, s := range table {
		if s.alias == "" && s.get() != s.def() {
			b.setting(section, s)
		}
	}
}

func (b *tomlWriter) setting(section toml.Key, s setting) {
	literal, err := s.literal()
	if err != nil && b.err == nil {
		b.err = fmt.Errorf("%s: %w", append(slices.Clone(section), s.name), err)
	}
	fmt.Fprintf(b, "%s = %s", s.name, literal)
	if s.pgbouncer != "" && s.get() == strings.Trim(s.pgbouncer, `"`) {
		fmt.Fprintf(b, " # PgBouncer's default; pgvalet's is %s", s.def())
	}
	if s.noEffect != "" {
		fmt.Fprintf(b, " # no effect: %s", s.noEffect)
	}
	b.WriteString("\n")
}

// literal returns the value as TOML writes it.
func (s setting) literal() (string, error) {
	switch p := s.field.(type) {
	case *int:
		return strconv.Itoa(*p), nil
	case *bool:
		return strconv.FormatBool(*p), nil
	case *time.Duration:
		return s.get(), nil
	case *Secret:
		return tomlString(p.Reveal())
	case *[]string:
		words := make([]string, len(*p))
		for i, w := range *p {
			var err error
			if words[i], err = tomlString(w); err != nil {
				return "", err
			}
		}
		return "[" + strings.Join(words, ", ") + "]", nil
	}
	return tomlString(s.get())
}

// tomlString returns s as a basic string of TOML.
func tomlString(s string) (string, error) {
	if !utf8.ValidString(s) {
		return `""`, errors.New("holds bytes that are not UTF-8")
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String(), nil
}
