package frontend

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgvalet/pgvalet/auth"
	"github.com/pgvalet/pgvalet/backend"
)

var (
	errNotInIAM = &backend.ConnectError{Kind: backend.AuthImpossible, Err: errors.New("refused")}
	errNoAnswer = &backend.ConnectError{Kind: backend.ConnectTimeout, Err: errors.New("no answer")}
)

// judgedBy returns proofs whose server answers with judge.
func judgedBy(t *testing.T, judge func(queue context.Context) error) *proofs {
	ps := new(proofs)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	ps.init(ctx, nil, &wg)
	ps.present = func(string, string, auth.Token) {}
	ps.judge = func(_, queue context.Context, _, _ string, _ auth.Token) error { return judge(queue) }
	return ps
}

func proofOf(user, source string) proof {
	return proof{database: "app", user: user, source: netip.MustParsePrefix(source)}
}

// newToken returns one that no other is like.
func newToken() auth.Token {
	tokensMade++
	return auth.Presented(fmt.Sprintf("token %d", tokensMade), auth.Claims{Expires: time.Now().Add(15 * time.Minute)})
}

var tokensMade int

// A source has a few tokens refused, and then one every few seconds until the
// server accepts one.
func TestProofsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer, judged := error(errNotInIAM), 0
		ps := judgedBy(t, func(context.Context) error { judged++; return answer })
		p := proofOf("app", "192.0.2.1/32")
		try := func(p proof, want error) {
			t.Helper()
			if err := ps.prove(t.Context(), p, newToken()); !errors.Is(err, want) {
				t.Errorf("got %v, want %v", err, want)
			}
		}
		for range 5 {
			try(p, errNotInIAM)
		}
		try(p, errIAMTooMany)
		try(proofOf("other", "192.0.2.1/32"), errNotInIAM)
		try(proofOf("app", "192.0.2.2/32"), errNotInIAM)
		<-time.After(ofUser.every)
		try(p, errNotInIAM)
		try(p, errIAMTooMany)
		answer = nil
		<-time.After(ofUser.every)
		for range 10 {
			try(p, nil)
		}

		// One that comes with many names has no more than one that comes with a few.
		answer, judged = errNotInIAM, 0
		for i := range 100 {
			_ = ps.prove(t.Context(), proofOf(fmt.Sprint(i), "192.0.2.3/32"), newToken())
		}
		if judged != ofSource.most {
			t.Errorf("%d tokens of 100 users from one source were tried, want %d", judged, ofSource.most)
		}

		// That the server has no answer says nothing of the source.
		answer = errNoAnswer
		for range 100 {
			try(proofOf("app", "192.0.2.4/32"), errNoAnswer)
		}
	})
}

// Those that are being tried count too, until it is known that they are right.
func TestProofsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := make(chan error)
		var judged atomic.Int32
		ps := judgedBy(t, func(context.Context) error { judged.Add(1); return <-answers })
		p := proofOf("app", "192.0.2.1/32")
		const n = 30
		start := func() chan error {
			results := make(chan error, n)
			for range n {
				token := newToken()
				go func() { results <- ps.prove(t.Context(), p, token) }()
			}
			synctest.Wait()
			return results
		}
		results := start()
		if n := judged.Load(); int(n) != ofUser.most {
			t.Fatalf("%d are tried at once, want %d", n, ofUser.most)
		}
		for range n {
			answers <- nil
			synctest.Wait()
		}
		for range n {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}

		p = proofOf("app", "192.0.2.2/32")
		judged.Store(0)
		results = start()
		for range ofUser.most {
			answers <- errNotInIAM
		}
		refused := 0
		for range n {
			if errors.Is(<-results, errNotInIAM) {
				refused++
			}
		}
		if n := int(judged.Load()); n != ofUser.most || refused != ofUser.most {
			t.Errorf("%d tried, %d refused, want %d", n, refused, ofUser.most)
		}
	})
}

// A token that has to wait for its turn is not shown to the server when its
// client is gone.
func TestProofsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin, shown := make(chan struct{}), 0
		ps := judgedBy(t, func(queue context.Context) error {
			select {
			case <-begin:
				shown++
				return nil
			case <-queue.Done():
				<-time.After(time.Second) // what the goroutine of another client may be behind by
				return context.Cause(queue)
			}
		})
		p, token, gone := proofOf("app", "192.0.2.1/32"), newToken(), errors.New("gone")
		var wg sync.WaitGroup
		prove := func(ctx context.Context, want error) {
			wg.Go(func() {
				if err := ps.prove(ctx, p, token); !errors.Is(err, want) {
					t.Errorf("got %v, want %v", err, want)
				}
			})
			synctest.Wait()
		}
		one, leave := context.WithCancelCause(t.Context())
		two, leaveToo := context.WithCancelCause(t.Context())
		prove(one, gone)
		prove(two, gone)
		leave(gone)
		synctest.Wait()
		leaveToo(gone)
		synctest.Wait()
		prove(t.Context(), nil) // comes when the others have just left
		select {
		case begin <- struct{}{}:
			t.Error("the server is shown a token that nobody waits for")
		default:
		}
		begin <- struct{}{}
		wg.Wait()
		if a := ps.allowance(time.Now(), p, ofUser); shown != 1 || a.running != 0 || a.left != ofUser.most+1 {
			t.Errorf("shown %d times, %+v", shown, a)
		}
	})
}
