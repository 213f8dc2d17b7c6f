package pool

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.uber.org/zap"
)

// TestCommandsOnUnusedAutoDatabase: the operator can pause and disable a database
// of the entry "*" before anybody has used it, as with PgBouncer; what undoes
// something finds none to undo it for.
func TestCommandsOnUnusedAutoDatabase(t *testing.T) {
	ps := startPools(t, 1, zap.NewNop(), "autodb_idle_timeout = 1", "[databases.\"*\"]\nhost = \"127.0.0.77\"")
	for name, command := range map[string]func(string) error{
		"RESUME": ps.Resume,
		"ENABLE": func(db string) error { return ps.SetDisabled(db, false) },
	} {
		if err := command("new"); !errors.Is(err, ErrNoSuchDatabase) {
			t.Errorf("%s of a database that nobody has used: %v", name, err)
		}
	}
	for name, command := range map[string]func(string) error{
		"PAUSE":      func(db string) error { return ps.Pause(context.Background(), db) },
		"DISABLE":    func(db string) error { return ps.SetDisabled(db, true) },
		"KILL":       ps.Kill,
		"RECONNECT":  ps.Reconnect,
		"WAIT_CLOSE": func(db string) error { return ps.WaitClose(context.Background(), db) },
	} {
		if err := command("new " + name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := command("pgbouncer"); !errors.Is(err, ErrNoSuchDatabase) {
			t.Errorf("%s of the console: %v", name, err)
		}
	}
	ps.forgetAuto(time.Now().Add(time.Minute))
	var names []string
	for _, db := range ps.Databases() {
		names = append(names, db.Name)
	}
	if len(names) != 3 || !ps.Paused("new PAUSE") || !ps.Paused("new KILL") || !ps.Disabled("new DISABLE") {
		t.Errorf("what nobody has used for a while has left %q, and they are not as the operator wants them", names)
	}
	p, err := ps.Get("new PAUSE", "somebody")
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.paused {
		t.Error("the pool of a paused database is not paused")
	}
}
