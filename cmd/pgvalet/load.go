package main

import (
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/pgvalet/pgvalet/auth"
	"github.com/pgvalet/pgvalet/backend"
	"github.com/pgvalet/pgvalet/config"
	"github.com/pgvalet/pgvalet/frontend"
	"github.com/pgvalet/pgvalet/pool"
)

// warn says what is accepted and has no effect, or a surprising one.
func (g *generation) warn(format string, args ...any) {
	g.warnings = append(g.warnings, fmt.Sprintf(format, args...))
}

// generation is a configuration and what the files that it names hold: all that
// a reload replaces. It is immutable.
type generation struct {
	config    *config.Config
	userlist  *auth.Userlist
	hba       *auth.HBA
	ldap      *auth.LDAP
	clientTLS *tls.Config // nil: clients get no TLS
	serverTLS *tls.Config
	tlsSum    [32]byte // of what serverTLS is made of
	scram     *auth.ScramServer
	warnings  []string // what is wrong or odd, but no reason not to start
}

// load reads everything, and complains about everything at once.
func load(path string) (*generation, error) {
	c, err := config.Load(path)
	if err != nil {
		return nil, err
	}
	return newGeneration(c)
}

// newGeneration reads the files that c names.
func newGeneration(c *config.Config) (*generation, error) {
	g := &generation{config: c}
	for _, w := range c.Warnings {
		g.warn("%v", w)
	}
	var errs [5]error
	if errs[0] = g.loadUserlist(); errs[0] != nil {
		errs[0] = fmt.Errorf("auth_file: %w", errs[0])
	}
	if c.ClientTLSSSLMode != config.SSLDisable {
		g.clientTLS, errs[1] = frontend.NewClientTLS(&c.Settings)
	}
	g.serverTLS, errs[2] = backend.NewServerTLS(&c.Settings)
	if errs[2] == nil {
		g.tlsSum, errs[3] = serverTLSSum(&c.Settings)
	}
	for i := 1; i <= 3; i++ {
		errs[i] = tlsError(errs[i])
	}
	switch c.AuthType {
	case config.AuthHBA:
		errs[4] = g.loadHBA()
	case config.AuthLDAP:
		var problem string
		if g.ldap, problem = auth.ParseLDAP(c.AuthLDAPOptions.Reveal()); problem != "" {
			errs[4] = errors.New("auth_ldap_options: " + problem)
		}
	}
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	g.scram = auth.NewScramServer(c.ScramIterations)
	return g, nil
}

// loadHBA reads auth_hba_file and auth_ident_file. A line that cannot be used is
// an error, but in PgBouncer, which warns and goes on without it; so is it behind
// a file of PgBouncer's, unless the line is there to keep somebody out.
func (g *generation) loadHBA() error {
	var ident *auth.Ident
	var bad, more []*auth.LineError
	var err error
	if g.config.AuthIdentFile != "" {
		if ident, bad, err = auth.LoadIdent(g.config.AuthIdentFile); err != nil {
			return fmt.Errorf("auth_ident_file: %w", err)
		}
	}
	if g.hba, more, err = auth.LoadHBA(g.config.AuthHBAFile, ident); err != nil {
		return fmt.Errorf("auth_hba_file: %w", err)
	}
	lenient := g.config.INI
	var errs []error
	for _, b := range append(bad, more...) {
		if lenient && !b.Rejects {
			g.warn("%s; the line is ignored", b.Error())
		} else {
			errs = append(errs, b)
		}
	}
	return errors.Join(errs...)
}

// tlsError says why there is no TLS, in the words of PgBouncer and the C library.
func tlsError(err error) error {
	if err == nil {
		return nil
	}
	text := strings.ReplaceAll(err.Error(), syscall.ENOENT.Error(), "No such file or directory")
	return errors.New("TLS setup failed: " + text)
}

// loadUserlist reads auth_file. As PgBouncer does it, an .ini works without that
// file too, and the names in [users] are users, without a password.
func (g *generation) loadUserlist() (err error) {
	c := g.config
	if c.AuthFile != "" {
		g.userlist, err = auth.LoadUserlist(c.AuthFile)
		if c.INI && errors.Is(err, os.ErrNotExist) {
			g.warn("auth_file: %v", err)
			err = nil
		}
	}
	if c.INI && err == nil && !c.HasAuthUser() { // who would know their passwords
		g.userlist = g.userlist.With(slices.Collect(maps.Keys(c.Users)))
	}
	return err
}

// serverTLSSum is a fingerprint of the server_tls_* settings and files: while it
// stays the same, so may the connections that were made under them.
func serverTLSSum(s *config.Settings) (sum [32]byte, err error) {
	h := sha256.New()
	fmt.Fprintln(h, s.ServerTLSSSLMode, s.ServerTLSProtocols, s.ServerTLSCiphers)
	for _, f := range [...]string{s.ServerTLSCAFile, s.ServerTLSCertFile, s.ServerTLSKeyFile} {
		var b []byte
		if f != "" && f != config.SystemCAs {
			if b, err = os.ReadFile(f); err != nil {
				return sum, err
			}
		}
		fmt.Fprintf(h, "%q %d\n", f, len(b))
		h.Write(b)
	}
	return [32]byte(h.Sum(nil)), nil
}

// poolSettings is what the pools need of g.
func (g *generation) poolSettings() pool.Settings {
	return pool.Settings{Config: g.config, Userlist: g.userlist, ServerTLS: g.serverTLS, TLSSum: g.tlsSum}
}
