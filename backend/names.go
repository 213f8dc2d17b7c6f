package backend

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Names remembers the addresses of host names for dns_max_ttl, and that there
// are none for dns_nxdomain_ttl. It also tells which addresses a name has lost:
// after a failover the servers there are the wrong ones.
type Names struct {
	// Static.
	lookUp func(ctx context.Context, host string) ([]netip.Addr, error)

	mu    sync.Mutex // guards the fields below
	ttl   time.Duration
	noTTL time.Duration // of names that do not exist
	hosts map[string]*name
}

// name is one host name. Names.mu guards it.
type name struct {
	addrs   []netip.Addr // what the last look-up found that found anything
	err     error        // that the name does not exist, if that was the last answer
	at      time.Time    // of the last answer
	turn    int          // address that comes first next time
	seen    map[netip.Addr]time.Time
	rotates bool // an address has gone and come back
	asking  bool // Refresh is under way
}

// Some names have another one of their addresses in each answer, as reader
// endpoints of Aurora do. When an address has come back that had gone, the name
// is known to be one of those, and an address has gone only when none of the
// answers of this time had it.
const rotation = 5 * time.Minute

// NewNames returns Names that know nothing yet. lookUp returns the addresses of
// a host; nil is the system's resolver.
func NewNames(lookUp func(ctx context.Context, host string) ([]netip.Addr, error)) *Names {
	if lookUp == nil {
		lookUp = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	return &Names{hosts: make(map[string]*name), lookUp: lookUp}
}

// Configure sets for how long the addresses of a name, and the fact that it has
// none, are remembered; 0: not at all.
func (n *Names) Configure(ttl, noTTL time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ttl, n.noTTL = ttl, noTTL
}

// NameInfo is what is known of one host name, for SHOW DNS_HOSTS.
type NameInfo struct {
	Host  string
	TTL   time.Duration // for how long it is still relied on, 0 for no longer
	Addrs []netip.Addr  // none: the name does not exist
}

// Snapshot returns everything that is remembered, by host.
func (n *Names) Snapshot() []NameInfo {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := make([]NameInfo, 0, len(n.hosts))
	for _, host := range slices.Sorted(maps.Keys(n.hosts)) {
		h := n.hosts[host]
		i := NameInfo{Host: host, TTL: max(0, n.lifetime(h)-time.Since(h.at))}
		if h.err == nil {
			i.Addrs = slices.Clone(h.addrs)
		}
		list = append(list, i)
	}
	return list
}

// addresses returns the addresses of a host. Each call begins with another one,
// so that the servers are spread over all of them, as PgBouncer does it.
func (n *Names) addresses(ctx context.Context, host string) ([]netip.Addr, error) {
	n.mu.Lock()
	h := n.hosts[host]
	if h != nil && time.Since(h.at) < n.lifetime(h) {
		defer n.mu.Unlock()
		return h.next(), h.err
	}
	n.mu.Unlock()

	addrs, err := n.lookUp(ctx, host)
	n.mu.Lock()
	defer n.mu.Unlock()
	if h = n.hosts[host]; h == nil {
		h = &name{seen: make(map[netip.Addr]time.Time)}
		n.hosts[host] = h
	}
	if err = h.learn(addrs, err, time.Now()); err != nil {
		return nil, err
	}
	return h.next(), nil
}

func (n *Names) lifetime(h *name) time.Duration {
	if h.err != nil {
		return n.noTTL
	}
	return n.ttl
}

// learn takes an answer. A look-up that failed for another reason than that the
// name does not exist says nothing, and is not remembered.
func (h *name) learn(addrs []netip.Addr, err error, now time.Time) error {
	if e, ok := errors.AsType[*net.DNSError](err); err != nil && (!ok || !e.IsNotFound) {
		return err
	}
	h.at, h.err = now, err
	if err != nil {
		return err
	}
	found := make([]netip.Addr, len(addrs))
	for i, a := range addrs {
		found[i] = a.Unmap()
		if _, known := h.seen[found[i]]; known && !slices.Contains(h.addrs, found[i]) {
			h.rotates = true
		}
	}
	h.addrs = found
	for _, a := range found {
		h.seen[a] = now
	}
	for a, at := range h.seen {
		if now.Sub(at) > rotation {
			delete(h.seen, a)
		}
	}
	return nil
}

// next returns all addresses, beginning with the one whose turn it is.
func (h *name) next() []netip.Addr {
	if len(h.addrs) == 0 {
		return nil
	}
	first := h.turn % len(h.addrs)
	h.turn++
	return slices.Concat(h.addrs[first:], h.addrs[:first])
}

// Gone reports whether a host had an address and has it no more. It asks nobody.
func (n *Names) Gone(host string, addr netip.Addr) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.hosts[host]
	if h == nil || h.err != nil || len(h.addrs) == 0 || slices.Contains(h.addrs, addr.Unmap()) {
		return false
	}
	_, seen := h.seen[addr.Unmap()]
	return !h.rotates || !seen
}

// Stale reports whether what is known of a host has outlived dns_max_ttl, but at
// least a second. After a true answer Refresh must follow; until it is done the
// answer is false.
func (n *Names) Stale(host string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.hosts[host]
	if h == nil || h.asking || time.Since(h.at) < max(n.lifetime(h), time.Second) {
		return false
	}
	h.asking = true
	return true
}

// Refresh looks a host up again.
func (n *Names) Refresh(ctx context.Context, host string) {
	addrs, err := n.lookUp(ctx, host)
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.hosts[host]
	h.asking = false
	if h.learn(addrs, err, time.Now()) != nil && h.err == nil {
		h.at = time.Now() // the resolver is in trouble: do not ask all the time
	}
}
