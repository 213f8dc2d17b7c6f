package frontend

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/pgvalet/pgvalet/backend/backendtest"
)

// shared is the PostgreSQL of this package's tests. It offers TLS and does not
// insist on it.
var shared backendtest.Shared

func TestMain(m *testing.M) {
	ca, err := backendtest.NewCA()
	if err == nil {
		shared.Options.TLS, err = ca.Issue("localhost", "127.0.0.1")
	}
	if err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(shared.Main(m))
}
