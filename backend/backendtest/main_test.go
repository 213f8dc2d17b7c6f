package backendtest

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"
)

var shared Shared

func TestMain(m *testing.M) { goleak.VerifyTestMain(shared.Main(m)) }

// testContext bounds what a test waits for.
func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}
