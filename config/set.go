package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/BurntSushi/toml"
)

// Assignment is one setting of [pgvalet] and the text of its new value, as an
// operator writes it: times are in seconds, "1" is yes.
type Assignment struct{ Key, Text string }

// With returns a copy of c in which the settings have the values of list. The
// error says why one of them cannot be: there is no such setting, only a restart
// applies it, or the value is no value for it. Whether the values go together is
// for Check to say.
func (c *Config) With(list ...Assignment) (*Config, error) {
	n := *c
	n.Warnings = nil // they are about the file
	table := n.table()
	for _, a := range list {
		i := slices.IndexFunc(table, func(s setting) bool { return s.name == a.Key })
		if i < 0 {
			return nil, fmt.Errorf("%s: there is no such setting", a.Key)
		}
		s := table[i]
		if s.restart {
			return nil, fmt.Errorf("%s: only a restart applies it", a.Key)
		}
		if err := s.assign(a.Text); err != nil {
			return nil, fmt.Errorf("%s: %w", a.Key, err)
		}
		f := c.checker()
		if s.path != nil {
			f.resolve(s)
		}
		if f.reviewed(global(a.Key), s); len(f.errs) > 0 {
			return nil, join(f.errs)
		}
	}
	return &n, nil
}

// Check returns what is contradictory in c, as Load would.
func (c *Config) Check() error {
	f := c.checker()
	f.check(c)
	if len(f.errs) > 0 {
		return join(f.errs)
	}
	return nil
}

// checker is a source for the checks of values that are in no file.
func (c *Config) checker() *source {
	return &source{file: "SET", dir: filepath.Dir(c.Path), keys: map[string]toml.Primitive{}, refused: map[string]bool{}}
}

// assign is set for a text that stands for a value of any kind.
func (s setting) assign(text string) error {
	err := s.set(text)
	if err == nil {
		return nil
	}
	if n, notInt := strconv.ParseInt(text, 0, 64); notInt == nil {
		return s.set(n)
	}
	if x, notFloat := strconv.ParseFloat(text, 64); notFloat == nil {
		return s.set(x)
	}
	return err
}
