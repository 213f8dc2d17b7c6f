package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/xdg-go/scram"
)

// The SASL mechanisms that PostgreSQL knows.
const (
	scramSHA256     = "SCRAM-SHA-256"
	scramSHA256Plus = "SCRAM-SHA-256-PLUS"
)

const (
	// defaultIterations is PostgreSQL's SCRAM_SHA_256_DEFAULT_ITERATIONS.
	defaultIterations = 4096
	// maxClientMessage is PostgreSQL's PG_MAX_SASL_MESSAGE_LENGTH.
	maxClientMessage = 1024
	// maxDerived bounds the cache of derived keys, at some 300 bytes each.
	maxDerived = 8192
	saltLength = 16
)

// ErrInvalidProof ends a SCRAM exchange whose client does not know the
// password, or whose user does not exist or has no secret for SCRAM. Every
// other error of ScramExchange.Step is a violation of the protocol.
var ErrInvalidProof = errors.New("scram: the client's proof is not valid")

// ScramServer authenticates clients. There is one for the process; it may be
// used by many goroutines.
//
// The keys of a plain secret are derived when its user first logs in, and
// kept. Only users that exist get there, so strangers can neither make the
// server hash nor push an entry out; but it makes the first login of such a
// user slower than that of a stranger, unless Precompute came before.
type ScramServer struct {
	iterations int
	key        [32]byte // random; salts, mock keys and cache keys come from it

	mu      sync.Mutex // guards derived
	derived map[[sha256.Size]byte]*derivation
}

// derivation is a cache entry; those who want the same keys wait for one.
type derivation struct {
	once sync.Once
	keys scram.StoredCredentials
	err  error
}

// NewScramServer returns a server that hashes plain passwords as often as
// iterations says (scram_iterations); less than one means 4096.
func NewScramServer(iterations int) *ScramServer {
	if iterations < 1 {
		iterations = defaultIterations
	}
	s := &ScramServer{iterations: iterations, derived: make(map[[sha256.Size]byte]*derivation)}
	rand.Read(s.key[:])
	return s
}

// Precompute derives the keys of all plain secrets of u that the cache has
// room for, until ctx is done. It uses a core for about a millisecond per user.
func (s *ScramServer) Precompute(ctx context.Context, u *Userlist) {
	if u == nil {
		return
	}
	for user, secret := range u.secrets {
		s.mu.Lock()
		full := len(s.derived) >= maxDerived
		s.mu.Unlock()
		if full || ctx.Err() != nil {
			return
		}
		if password, ok := secret.Plain(); ok {
			_, _ = s.derive(user, password) // an error comes again when the user logs in
		}
	}
}

// Mechanisms lists what to offer in AuthenticationSASL: with channel-binding
// data (TLSServerEndPoint of our certificate) SCRAM-SHA-256-PLUS comes first.
func (s *ScramServer) Mechanisms(channelBinding []byte) []string {
	if channelBinding != nil {
		return []string{scramSHA256Plus, scramSHA256}
	}
	return []string{scramSHA256}
}

// Begin starts one exchange with the mechanism that the client chose.
// channelBinding must be what Mechanisms was called with. If known is false,
// or secret cannot serve SCRAM, the exchange looks like any other, with a salt
// that stays the same for the user, and ends in ErrInvalidProof.
//
// The first Begin for a plain secret hashes it, which takes milliseconds.
func (s *ScramServer) Begin(user string, secret Secret, known bool, mechanism string, channelBinding []byte) (*ScramExchange, error) {
	plus := mechanism == scramSHA256Plus && channelBinding != nil
	if !plus && mechanism != scramSHA256 {
		return nil, errors.New("scram: the client selected a mechanism that was not offered")
	}
	e := &ScramExchange{plus: plus}
	var keys scram.StoredCredentials
	switch kind := secret.Kind(); {
	case known && kind == SecretScram:
		keys = *secret.v.scram
		e.stored = secret.v.scram
	case known && kind == SecretPlain:
		var err error
		if keys, err = s.derive(user, *secret.v.text); err != nil {
			return nil, fmt.Errorf("scram: derive keys: %w", err)
		}
	default:
		keys = scram.StoredCredentials{
			KeyFactors: s.keyFactors(user),
			StoredKey:  s.mac("stored key", user),
			ServerKey:  s.mac("server key", user),
		}
		e.mock = true
	}
	// The name in the message is ignored, as PostgreSQL ignores it: the one of
	// the startup packet counts.
	server, err := scram.SHA256.NewServer(func(string) (scram.StoredCredentials, error) { return keys, nil })
	if err != nil {
		return nil, fmt.Errorf("scram: %w", err)
	}
	if channelBinding == nil {
		e.conversation = server.NewConversation()
	} else {
		e.conversation = server.NewConversationWithChannelBinding(scram.ChannelBinding{
			Type: scram.ChannelBindingTLSServerEndpoint,
			Data: channelBinding,
		})
	}
	return e, nil
}

// derive returns the keys of a plain secret from the cache, or makes them.
func (s *ScramServer) derive(user, password string) (scram.StoredCredentials, error) {
	at := [sha256.Size]byte(s.mac("cache", user, password))
	s.mu.Lock()
	d := s.derived[at]
	if d == nil {
		if len(s.derived) >= maxDerived {
			for other := range s.derived { // any: Go's order is random
				delete(s.derived, other)
				break
			}
		}
		d = new(derivation)
		s.derived[at] = d
	}
	s.mu.Unlock()
	d.once.Do(func() { d.keys, d.err = deriveKeys(password, s.keyFactors(user)) })
	return d.keys, d.err
}

// keyFactors are the same for a user with a plain secret and for nobody, so
// that the salt tells nothing.
func (s *ScramServer) keyFactors(user string) scram.KeyFactors {
	return scram.KeyFactors{Salt: string(s.mac("salt", user)[:saltLength]), Iters: s.iterations}
}

// mac derives bytes from the process's key. The parts cannot contain a zero
// byte: they end at one in the protocol.
func (s *ScramServer) mac(parts ...string) []byte {
	m := hmac.New(sha256.New, s.key[:])
	m.Write([]byte(strings.Join(parts, "\x00")))
	return m.Sum(nil)
}

// ScramExchange is one client's login, for one goroutine.
type ScramExchange struct {
	conversation *scram.ServerConversation
	plus         bool // the client selected SCRAM-SHA-256-PLUS
	mock         bool // nobody can pass
	over         bool // it has ended, well or not
	begun        bool

	stored                   *scram.StoredCredentials // nil: the keys of the exchange are worth nothing elsewhere
	clientFirst, serverFirst string
	keys                     *ScramKeys
}

// Keys returns what the client has revealed, after Step was done without an
// error: what opens a server that stores the very secret of this exchange. It is
// nil unless that is one for SCRAM.
func (e *ScramExchange) Keys() *ScramKeys { return e.keys }

// Step takes the client's next message, from SASLInitialResponse and then from
// SASLResponse, and returns what to send back: first in AuthenticationSASLContinue,
// then, with done, in AuthenticationSASLFinal. done without an error means
// authenticated. An error ends the exchange; there is nothing to send but an
// ErrorResponse, and no bytes of the client are in it.
func (e *ScramExchange) Step(clientMessage []byte) (serverMessage []byte, done bool, err error) {
	if e.over {
		return nil, true, errors.New("scram: the exchange is over")
	}
	serverMessage, done, err = e.step(clientMessage)
	e.over = done
	return serverMessage, done, err
}

func (e *ScramExchange) step(clientMessage []byte) (serverMessage []byte, done bool, err error) {
	if len(clientMessage) > maxClientMessage {
		return nil, true, errors.New("scram: the client's message is too long")
	}
	if !e.begun {
		e.begun = true
		// PostgreSQL refuses a flag that does not fit the mechanism; the
		// library only knows whether binding is possible.
		if bound := len(clientMessage) > 0 && clientMessage[0] == 'p'; bound != e.plus {
			return nil, true, errors.New("scram: the channel-binding flag does not fit the selected mechanism")
		}
	}
	message := string(clientMessage)
	reply, err := e.conversation.Step(message)
	switch {
	case reply == scram.ErrInvalidProof:
		return nil, true, ErrInvalidProof
	case err != nil && strings.HasPrefix(reply, "e="):
		return nil, true, errors.New("scram: " + reply[len("e="):])
	case err != nil:
		return nil, true, errors.New("scram: malformed message from the client")
	case e.conversation.AuthzID() != "":
		return nil, true, errors.New("scram: an authorization identity is not supported")
	case e.mock && e.conversation.Valid():
		return nil, true, ErrInvalidProof
	}
	if e.stored != nil && e.conversation.Valid() {
		e.keys = revealKeys(e.stored, e.clientFirst, e.serverFirst, message)
	}
	e.clientFirst, e.serverFirst = message, reply
	return []byte(reply), e.conversation.Valid(), nil
}

// deriveKeys hashes password as RFC 5802 says.
func deriveKeys(password string, factors scram.KeyFactors) (scram.StoredCredentials, error) {
	client, err := newScramClient(password)
	if err != nil {
		return scram.StoredCredentials{}, err
	}
	return client.GetStoredCredentialsWithError(factors)
}

// newScramClient normalizes password with SASLprep; one that SASLprep rejects
// is used as it is, as PostgreSQL does on both sides (scram-common.c,
// pg_saslprep). The user name is empty, as libpq's is: PostgreSQL ignores it.
func newScramClient(password string) (*scram.Client, error) {
	client, err := scram.SHA256.NewClient("", password, "")
	if err != nil {
		client, err = scram.SHA256.NewClientUnprepped("", password, "")
	}
	return client, err
}
