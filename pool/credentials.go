package pool

import "github.com/pgvalet/pgvalet/auth"

// Credentials are what a login of a client has shown about its user, that can
// serve to log in to a server as the same user.
type Credentials struct {
	Secret auth.Secret     // what the client was checked against
	Keys   *auth.ScramKeys // what a login with SCRAM has revealed; may be nil
}

// Learn takes the credentials of a client that has logged in as the pool's own
// user. They are for new servers, where the configuration has nothing better:
// auth_file knows the user, or the database's entry has its password. A secret
// for SCRAM opens a server only together with the keys that a client's login has
// revealed, and only if the server has the same secret.
func (p *Pool) Learn(c Credentials) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.Keys == nil {
		c.Keys = p.learned.Keys // of an earlier client; they fit their secret or are not used
	}
	if c.Secret.Equal(p.learned.Secret) && c.Keys.Equal(p.learned.Keys) {
		return
	}
	p.learned = c
	if p.db == nil {
		return
	}
	old := p.hosts[0].target
	p.setHosts(p.set.settings.Load())
	p.useLearned()
	if t := p.hosts[0].target; !t.Password.Equal(old.Password) || !t.Keys.Equal(old.Keys) {
		p.failed, p.failures = nil, 0 // what failed was another password
	}
}

// useLearned completes new targets. mu is held, or the pool is new.
func (p *Pool) useLearned() {
	for _, h := range p.hosts {
		t := h.target
		if t.IAM != nil {
			return
		}
		if t.Password.Kind() == auth.SecretNone {
			t.Password = p.learned.Secret
		}
		if p.learned.Keys.Fit(t.Password) {
			t.Keys = p.learned.Keys
		}
	}
}
