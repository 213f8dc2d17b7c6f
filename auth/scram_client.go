package auth

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/xdg-go/scram"
)

// maxServerIterations bounds how much a server can make us hash: at a million
// iterations a login takes a good part of a second of CPU, 250 times what
// PostgreSQL asks for by default.
const maxServerIterations = 1_000_000

// ScramClient logs in to a PostgreSQL server, once. It is for one goroutine.
type ScramClient struct {
	mechanism    string
	conversation interface {
		Step(message string) (string, error)
		Valid() bool
	}
	next int // the step that comes next
}

// The steps of a ScramClient.
const (
	stepFirst = iota
	stepContinue
	stepFinal
	stepOver
)

// NewScramClient chooses among the mechanisms of AuthenticationSASL.
// channelBinding is TLSServerEndPoint of the server's certificate, nil without
// TLS. With it, SCRAM-SHA-256-PLUS is chosen if it was offered, and if it was
// not, the server is told that we could have, so that it notices when somebody
// in between took it off the list.
func NewScramClient(password string, mechanisms []string, channelBinding []byte) (*ScramClient, error) {
	client, err := newScramClient(password)
	if err != nil {
		return nil, fmt.Errorf("scram: %w", err)
	}
	// The library demands 4096, as RFC 7677 does; PostgreSQL 16 and libpq let
	// scram_iterations be anything from 1.
	client = client.WithMinIterations(1)
	switch {
	case channelBinding != nil && slices.Contains(mechanisms, scramSHA256Plus):
		return &ScramClient{
			mechanism: scramSHA256Plus,
			conversation: client.NewConversationWithChannelBinding(scram.ChannelBinding{
				Type: scram.ChannelBindingTLSServerEndpoint,
				Data: channelBinding,
			}),
		}, nil
	case !slices.Contains(mechanisms, scramSHA256):
		return nil, fmt.Errorf("scram: the server offers none of the mechanisms we can use: %q", mechanisms)
	case channelBinding != nil:
		return &ScramClient{mechanism: scramSHA256, conversation: client.NewConversationAdvertisingChannelBinding()}, nil
	default:
		return &ScramClient{mechanism: scramSHA256, conversation: client.NewConversation()}, nil
	}
}

// NewScramClientWithKeys is NewScramClient for a server that stores the secret
// which a client has shown to know by logging in to us.
func NewScramClientWithKeys(keys *ScramKeys, mechanisms []string, channelBinding []byte) (*ScramClient, error) {
	switch {
	case channelBinding != nil && slices.Contains(mechanisms, scramSHA256Plus):
		return &ScramClient{mechanism: scramSHA256Plus, conversation: newKeyConversation(keys, "p=tls-server-end-point,,", channelBinding)}, nil
	case !slices.Contains(mechanisms, scramSHA256):
		return nil, fmt.Errorf("scram: the server offers none of the mechanisms we can use: %q", mechanisms)
	case channelBinding != nil:
		return &ScramClient{mechanism: scramSHA256, conversation: newKeyConversation(keys, "y,,", nil)}, nil
	}
	return &ScramClient{mechanism: scramSHA256, conversation: newKeyConversation(keys, "n,,", nil)}, nil
}

// Mechanism returns the chosen mechanism, for SASLInitialResponse.
func (c *ScramClient) Mechanism() string { return c.mechanism }

// First returns the data of SASLInitialResponse.
func (c *ScramClient) First() ([]byte, error) { return c.step(stepFirst, "") }

// Continue takes the data of AuthenticationSASLContinue and returns that of
// SASLResponse. It hashes the password as often as the server says, but
// refuses more than a million times.
func (c *ScramClient) Continue(serverFirst []byte) ([]byte, error) {
	message := string(serverFirst)
	if fields := strings.Split(message, ","); len(fields) > 2 {
		count, err := strconv.Atoi(strings.TrimPrefix(fields[2], "i="))
		if err == nil && count > maxServerIterations {
			c.next = stepOver
			return nil, fmt.Errorf("scram: the server demands %d iterations; %d is the most that is accepted", count, maxServerIterations)
		}
	}
	return c.step(stepContinue, message)
}

// Final takes the data of AuthenticationSASLFinal and verifies the server's
// signature: without an error, the server knows the password too. A login that
// never came here is not to be trusted.
func (c *ScramClient) Final(serverFinal []byte) error {
	if _, err := c.step(stepFinal, string(serverFinal)); err != nil {
		return err
	}
	if !c.conversation.Valid() {
		return errors.New("scram: the server has not proved that it knows the password")
	}
	return nil
}

func (c *ScramClient) step(want int, message string) ([]byte, error) {
	if c.next != want {
		return nil, errors.New("scram: message out of turn")
	}
	reply, err := c.conversation.Step(message)
	if err != nil {
		c.next = stepOver
		return nil, fmt.Errorf("scram: %w", err)
	}
	c.next++
	return []byte(reply), nil
}
