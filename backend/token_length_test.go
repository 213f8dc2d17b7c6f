package backend

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgvalet/pgvalet/auth"
	"github.com/pgvalet/pgvalet/backend/backendtest"
)

// A server that goes away may have any reason for it. The token's length is one
// only if it is out of the ordinary.
func TestHungUpOnToken(t *testing.T) {
	r := startRDS(t)
	r.Set(func(k *backendtest.Knobs) { k.MaxToken = 300 })
	for length, want := range map[int]Reason{359: HungUp, 2300: HungUp, 5000: TokenTooLong, maxPassword: TokenTooLong} {
		token := auth.Presented(strings.Repeat("x", length), auth.Claims{Expires: time.Now().Add(time.Minute)})
		_, err := ConnectWith(testContext(t), r.target, token)
		wantConnectError(t, err, ConnectionLost, "server conn crashed?", "while waiting for the answer to the password")
		if e := Explain(err); e.Reason != want {
			t.Errorf("a token of %d bytes: explained as %v, want %v", length, e.Reason, want)
		}
	}
}

// What PostgreSQL does not even read is not sent.
func TestPasswordTooLong(t *testing.T) {
	r := startRDS(t)
	token := auth.Presented(strings.Repeat("x", maxPassword+1), auth.Claims{Expires: time.Now().Add(time.Minute)})
	_, err := ConnectWith(testContext(t), r.target, token)
	wantConnectError(t, err, AuthImpossible, "server login failed: IAM token too long", "has 65531 bytes, and PostgreSQL takes no more than 65530")
	if e := Explain(err); e.Reason != TokenTooLong || r.Stats().DistinctTokens != 0 {
		t.Errorf("explained as %+v, %+v", e, r.Stats())
	}

	server := backendtest.StartScript(t, backendtest.Script{
		backendtest.ExpectStartup(nil),
		backendtest.Send(&pgproto3.AuthenticationCleartextPassword{}),
	})
	target := scriptTarget(t, server)
	target.Password = auth.PlainSecret(strings.Repeat("x", maxPassword+1))
	_, err = Connect(testContext(t), target)
	wantConnectError(t, err, AuthImpossible, "server login failed: password too long", "has 65531 bytes")
}
