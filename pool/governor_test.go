package pool

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgvalet/pgvalet/config"
)

var testEndpoint = endpointOf("DB.Example", 5432)

func newGovernor(l loginLimits) *governor {
	return &governor{gates: make(map[endpoint]*gate), limits: map[endpoint]loginLimits{endpointOf("db.example", 5432): l}}
}

// TestGovernorRate: however many want to log in, no second sees more than the
// rate, and what the rate allows is used.
func TestGovernorRate(t *testing.T) {
	for _, rate := range []int{1, 7, 10, 25, 100, 199} {
		synctest.Test(t, func(t *testing.T) {
			g := newGovernor(loginLimits{parallel: 8, rate: rate})
			var mu sync.Mutex
			var at []time.Time
			var running sync.WaitGroup
			began := time.Now()
			for range 3*rate + 20 {
				running.Go(func() {
					leave, err := g.enter(t.Context(), testEndpoint, began, true)
					if err != nil {
						t.Error(err)
						return
					}
					defer leave()
					mu.Lock()
					at = append(at, time.Now())
					mu.Unlock()
				})
			}
			running.Wait()
			slices.SortFunc(at, time.Time.Compare)
			for i := rate; i < len(at); i++ {
				if at[i].Sub(at[i-rate]) < time.Second {
					t.Fatalf("rate %d: login %d is only %v after the one %d before it", rate, i, at[i].Sub(at[i-rate]), rate)
				}
			}
			if took, enough := at[len(at)-1].Sub(began), time.Duration(len(at))*time.Second/time.Duration(max(1, rate-rate/10)); took > enough {
				t.Errorf("rate %d: %d logins took %v, want at most %v", rate, len(at), took, enough)
			}
			if len(g.gates) > 1 {
				t.Errorf("%d gates for one endpoint", len(g.gates))
			}
		})
	}
}

// TestGovernorOrder: the limit on logins under way holds, a password login knows
// no rate, and places go to who has waited longest, wherever it waits.
func TestGovernorOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGovernor(loginLimits{parallel: 2, rate: 1})
		began := time.Now()
		var first []func()
		for range 2 {
			leave, err := g.enter(t.Context(), testEndpoint, began, false)
			if err != nil {
				t.Fatal(err)
			}
			first = append(first, leave)
		}
		if time.Since(began) != 0 {
			t.Error("password logins were held to the rate")
		}
		order := make(chan int, 10)
		var running sync.WaitGroup
		for _, age := range []int{3, 9, 1, 7, 5} {
			running.Go(func() {
				leave, err := g.enter(t.Context(), testEndpoint, began.Add(-time.Duration(age)*time.Second), false)
				if err != nil {
					t.Error(err)
					return
				}
				order <- age
				leave()
			})
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("gone")
		running.Go(func() {
			if _, err := g.enter(ctx, testEndpoint, time.Time{}, false); !errors.Is(err, why) {
				t.Errorf("after it was cancelled: %v", err)
			}
		})
		synctest.Wait()
		cancel(why)
		synctest.Wait()
		if len(order) != 0 {
			t.Errorf("%d logins more than the limit", len(order))
		}
		first[0]()
		running.Wait()
		close(order)
		var got []int
		for age := range order {
			got = append(got, age)
		}
		if !slices.Equal(got, []int{9, 7, 5, 3, 1}) {
			t.Errorf("the order was %v", got)
		}
		first[1]()
		if len(g.gates) != 0 {
			t.Error("the gate is kept although it remembers nothing")
		}
	})
}

// TestGovernorLimits: the limits of every entry hold, those of "*" too, and the
// lowest where several are at one endpoint.
func TestGovernorLimits(t *testing.T) {
	cfg, err := config.Parse("test.toml", []byte(`
[pgvalet]
unix_socket_dir = "/tmp"
auth_type = "trust"
auth_file = "none"
server_login_parallel = 9
iam_login_rate = 90
[databases.a]
host = "one, TWO"
server_login_parallel = 3
[databases.b]
host = "two"
server_login_parallel = 5
[databases."*"]
host = "three"
server_login_parallel = 1
`))
	if err != nil {
		t.Fatal(err)
	}
	g := newGovernor(loginLimits{})
	g.configure(cfg)
	for host, want := range map[string]loginLimits{"one": {3, 90}, "two": {3, 90}, "three": {1, 90}, "four": {9, 90}} {
		if got := g.limitsOf(endpointOf(host, 5432)); got != want {
			t.Errorf("%s: %+v, want %+v", host, got, want)
		}
	}
}

func TestRetryPause(t *testing.T) {
	const most = 15 * time.Second
	for failures, want := range []time.Duration{firstRetry, firstRetry, 2 * firstRetry, 4 * firstRetry, 8 * firstRetry, 16 * firstRetry, 32 * firstRetry, 64 * firstRetry, 128 * firstRetry, most, most} {
		want = min(want, most)
		seen := make(map[time.Duration]bool)
		for range 50 {
			got := retryPause(failures, most)
			if got > want || got < want*2/3-1 {
				t.Fatalf("after %d failures: %v, want up to a third less than %v", failures, got, want)
			}
			seen[got] = true
		}
		if len(seen) < 10 {
			t.Errorf("after %d failures there are only %d different pauses", failures, len(seen))
		}
	}
	if got := retryPause(5000, most); got < most*2/3-1 || got > most {
		t.Errorf("after very many failures: %v", got)
	}
	if got := retryPause(3, 0); got != 0 {
		t.Errorf("without server_login_retry: %v", got)
	}
}
