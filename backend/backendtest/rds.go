package backendtest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"
)

// DefaultRDSHost is the endpoint that the stand-in is by default.
const DefaultRDSHost = "pgvalet-test.cluster-c0abcdefghij.us-east-1.rds.amazonaws.com"

// RDSOptions says what StartRDS stands in for.
type RDSOptions struct {
	// Network and Address lead to the real PostgreSQL, which has to trust
	// whoever comes that way: "unix" and Postgres.SocketPath.
	Network, Address string

	DSQL     bool        // stand in for Aurora DSQL instead: its tokens and its words
	Port     int         // of 127.0.0.1; default: a free one
	Hosts    []string    // the endpoint's names; default: DefaultRDSHost
	Region   string      // default: "us-east-1"
	Keys     []AccessKey // more with AddKey
	IAMUsers []string    // members of rds_iam; all others need a password
	CA       *CA         // issues the certificate, for Hosts and localhost; default: a new one
	Clock    func() time.Time
	Log      *zap.Logger // default: nothing is logged
}

// Knobs are what can be changed while the stand-in runs, see RDS.Set. A
// change holds for connections accepted from then on, but for ClockOffset,
// RejectAll, PerSecond and Hosts, which hold for logins from then on.
type Knobs struct {
	Refuse        bool          // close connections at once
	NoTLS         bool          // have none
	MaxTLS        uint16        // the newest version, tls.VersionTLS…; 0: the newest there is
	NoProcess     bool          // answer the first packet with an error, as PostgreSQL does when it cannot fork
	RejectAll     bool          // refuse every token with InternalError, as when RDS's IAM agent is down
	AcceptLatency time.Duration // before the first byte is read
	AuthLatency   time.Duration // between the token and the answer
	ClockOffset   time.Duration // added to Clock
	PerSecond     int           // IAM logins beyond so many in a second are Throttled, 200 on RDS; 0: no limit; negative: all are, as if others used the limit up
	Refusal       *Refusal      // ends every login; nil: none
	MaxToken      int           // hang up without a word on tokens of more bytes, as PostgreSQL does; 0: its own limit of 65,530
	Hosts         []string      // the endpoint's names; the certificate keeps the old ones, as in a blue/green switchover
	IAMUsers      []string      // members of rds_iam
	Challenge     AuthMethod    // what the others are asked for: SCRAM (default) or MD5
	Network       string        // leads to the real PostgreSQL, with Address
	Address       string
}

// RDS stands in for an Amazon RDS or Aurora instance with IAM authentication:
// a TLS listener on 127.0.0.1 that speaks PostgreSQL's protocol until a login's
// token is verified, and then splices the client with a real PostgreSQL as the
// same user and database. What it refuses it refuses in the words and SQLSTATEs
// of PostgreSQL with RDS's pg_hba.conf:
//
//	hostssl all +rds_iam all pam
//	host    all +rds_iam all reject
//	hostssl all all      all scram-sha-256
//
// It knows no password, so a user outside rds_iam never gets in.
type RDS struct {
	dsql   bool
	region string
	port   int
	clock  func() time.Time
	log    *zap.Logger
	ln     net.Listener
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup // the accept loop and one goroutine per session

	mu          sync.Mutex // guards the rest
	knobs       Knobs
	keys        map[string]AccessKey
	ca          *CA
	cert        *Certificate
	sessions    map[*rdsSession]struct{}
	stats       Stats
	tokens      map[[32]byte]struct{} // hashes of those seen
	logins      []RDSLogin
	changed     chan struct{} // closed and replaced when stats change
	second      time.Time     // in which secondCount logins were counted, for PerSecond
	secondCount int
}

// StartRDS starts a stand-in, which runs until Close.
func StartRDS(o RDSOptions) (*RDS, error) {
	if o.Hosts == nil {
		o.Hosts = []string{DefaultRDSHost}
	}
	if o.Region == "" {
		o.Region = "us-east-1"
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	r := &RDS{
		dsql:   o.DSQL,
		region: o.Region,
		clock:  o.Clock,
		log:    o.Log,
		knobs: Knobs{
			Hosts:     o.Hosts,
			IAMUsers:  o.IAMUsers,
			Challenge: SCRAM,
			Network:   o.Network,
			Address:   o.Address,
		},
		keys:     make(map[string]AccessKey),
		sessions: make(map[*rdsSession]struct{}),
		tokens:   make(map[[32]byte]struct{}),
		changed:  make(chan struct{}),
	}
	for _, k := range o.Keys {
		r.keys[k.ID] = k
	}
	if err := r.useCA(o.CA); err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(o.Port)))
	if err != nil {
		return nil, err
	}
	r.ln = ln
	r.port = ln.Addr().(*net.TCPAddr).Port
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.wg.Go(r.accept)
	return r, nil
}

func (r *RDS) accept() {
	for {
		conn, err := r.ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			r.log.Warn("accept", zap.Error(err))
			r.sleep(100 * time.Millisecond) // out of file descriptors, say
			continue
		}
		if s := r.open(conn); s != nil {
			r.wg.Go(s.serve)
		}
	}
}

// open makes a session of conn; it returns nil and closes conn instead when
// there are to be no more.
func (r *RDS) open(conn net.Conn) *rdsSession {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ctx.Err() != nil {
		conn.Close()
		return nil
	}
	r.stats.Accepted++
	if r.knobs.Refuse {
		conn.Close()
		r.notify()
		return nil
	}
	s := &rdsSession{rds: r, knobs: r.knobs, raw: conn, conn: conn}
	r.sessions[s] = struct{}{}
	r.stats.Open = len(r.sessions)
	r.stats.PeakOpen = max(r.stats.PeakOpen, r.stats.Open)
	r.notify()
	return s
}

// sleep waits for d, or less if the stand-in is closed meanwhile.
func (r *RDS) sleep(d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.ctx.Done():
	}
}

// Close stops listening, closes all connections and waits for what served them.
func (r *RDS) Close() error {
	r.cancel()
	err := r.ln.Close()
	r.DropConnections()
	r.wg.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Addr returns the listener's address, 127.0.0.1:port.
func (r *RDS) Addr() string { return r.ln.Addr().String() }

// Endpoint returns the host:port that tokens have to be signed for: the first
// of the endpoint's names, with the listener's port.
func (r *RDS) Endpoint() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return net.JoinHostPort(r.knobs.Hosts[0], strconv.Itoa(r.port))
}

// Region returns the region that tokens have to be signed for.
func (r *RDS) Region() string { return r.region }

// CA returns the authority that issued the current certificate.
func (r *RDS) CA() *CA {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ca
}

// RotateCA replaces the certificate by one from a new authority.
func (r *RDS) RotateCA() error { return r.useCA(nil) }

// RenewCertificate has the same authority issue another certificate, which is
// valid until then.
func (r *RDS) RenewCertificate(until time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	cert, err := r.ca.issue(func(c *x509.Certificate) { c.NotAfter = until }, append(slices.Clone(r.knobs.Hosts), "localhost")...)
	if err != nil {
		return err
	}
	r.cert = cert
	return nil
}

func (r *RDS) useCA(ca *CA) error {
	if ca == nil {
		var err error
		if ca, err = NewCA(); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	cert, err := ca.Issue(append(slices.Clone(r.knobs.Hosts), "localhost")...)
	if err != nil {
		return err
	}
	r.ca, r.cert = ca, cert
	return nil
}

func (r *RDS) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return &r.cert.TLS, nil
}

// Set changes the knobs. The function runs under a lock; it must replace
// slices rather than write into them.
func (r *RDS) Set(change func(k *Knobs)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.knobs)
}

// AddKey makes an access key known, in place of one with the same ID.
func (r *RDS) AddKey(k AccessKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys[k.ID] = k
}

// RevokeKey makes tokens signed with a key be refused from now on.
func (r *RDS) RevokeKey(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.keys[id]
	k.ID, k.Revoked = id, true
	r.keys[id] = k
}

// DropConnections closes all connections at once, as in a failover, and
// returns how many there were.
func (r *RDS) DropConnections() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	for s := range r.sessions {
		s.close()
	}
	return len(r.sessions)
}

// verify says whether token lets user in.
func (r *RDS) verify(token, user string) (AccessKey, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.clock().Add(r.knobs.ClockOffset)
	if r.throttled(now) {
		return AccessKey{}, refuse(Throttled, "more than %d logins in a second", r.knobs.PerSecond)
	}
	if r.knobs.RejectAll {
		return AccessKey{}, refuse(InternalError, "told to reject all")
	}
	hosts := make([]string, len(r.knobs.Hosts))
	for i, host := range r.knobs.Hosts {
		hosts[i] = net.JoinHostPort(host, strconv.Itoa(r.port))
		if r.dsql {
			hosts[i] = host
		}
	}
	return TokenCheck{
		DSQL:   r.dsql,
		Hosts:  hosts,
		Region: r.region,
		User:   user,
		Now:    now,
		Key:    func(id string) (AccessKey, bool) { k, ok := r.keys[id]; return k, ok },
	}.verify(token)
}

// throttled counts a login at now against PerSecond. r.mu must be held.
func (r *RDS) throttled(now time.Time) bool {
	if second := now.Truncate(time.Second); !second.Equal(r.second) {
		r.second, r.secondCount = second, 0
	}
	r.secondCount++
	return r.knobs.PerSecond != 0 && r.secondCount > r.knobs.PerSecond
}
