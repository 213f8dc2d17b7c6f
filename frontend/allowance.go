package frontend

import "time"

// allowance bounds the new IAM tokens that a source may have tried, so that
// nobody can use us to hammer RDS, or to lock others out by the throttling of
// its logins. A token that is being tried takes one, which comes back unless the
// server refuses it; so a crowd with right tokens waits a moment at most. What
// is lost comes back with time: then another token may be tried, and when the
// server accepts it, a network whose tokens it refused for a while is as before.
//
// Only a refusal counts. When the server cannot be reached or has no room, that
// says nothing of the source.
type allowance struct {
	bounds
	left    int
	running int           // tokens that are being tried
	since   time.Time     // left has grown with time up to here
	freed   chan struct{} // closed when a try has ended; nil: nobody waits for that
}

// bounds are those of an allowance.
type bounds struct {
	most  int           // at first, and what time brings back
	every time.Duration // it brings one back
}

var (
	// ofUser is for one user and database from one source: an application with a
	// wrong policy is not to cost others behind the same NAT their logins.
	ofUser = bounds{5, 5 * time.Second}
	// ofSource is for all that a source asks for. Names of users cost nothing.
	ofSource = bounds{20, time.Second}
)

// maxAllowance is how far tokens that are accepted can raise an allowance: as
// many may be tried at once.
const maxAllowance = maxProving / 2

// allowance returns what p has now. mu is held.
func (ps *proofs) allowance(now time.Time, p proof, b bounds) *allowance {
	a := ps.allowances[p]
	if a == nil {
		a = &allowance{bounds: b, left: b.most, since: now}
		remember(ps.allowances, now, p, a, (*allowance).whole)
	}
	a.grow(now)
	return a
}

// whole returns when time will have brought back everything.
func (a *allowance) whole() time.Time {
	return a.since.Add(time.Duration(a.most-a.left-a.running) * a.every)
}

// grow brings back what is due.
func (a *allowance) grow(now time.Time) {
	lost := a.most - a.left - a.running
	if lost <= 0 {
		a.since = now
		return
	}
	n := int(now.Sub(a.since) / a.every)
	a.left += min(n, lost)
	a.since = a.since.Add(time.Duration(n) * a.every)
}

func (a *allowance) take() {
	a.left--
	a.running++
}

// wait returns what is closed when a try has ended.
func (a *allowance) wait() <-chan struct{} {
	if a.freed == nil {
		a.freed = make(chan struct{})
	}
	return a.freed
}

// settle ends a try. A token that is accepted makes good the refused ones, and
// makes room for one more at a time.
func (a *allowance) settle(now time.Time, err error) {
	a.grow(now)
	a.running--
	switch {
	case err == nil:
		a.left = min(max(a.left+2, a.most-a.running), maxAllowance)
	case !refused(err):
		a.left++
	}
	if a.freed != nil {
		close(a.freed)
		a.freed = nil
	}
}
