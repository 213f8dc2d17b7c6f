package backendtest

import (
	"errors"
	"slices"
	"time"
)

// Refusal is an error that ends a login for another reason than who logs in.
type Refusal struct {
	Code, Message string
	Hint          string
	After         bool // not before the login is authenticated
}

// What PostgreSQL says when it has no room for, or no time for, a connection.
// Sources: src/backend/postmaster/postmaster.c, storage/lmgr/proc.c,
// utils/init/postinit.c and tcop/postgres.c of PostgreSQL 15.
var (
	StartingUp     = Refusal{Code: "57P03", Message: "the database system is starting up"}
	ShuttingDown   = Refusal{Code: "57P03", Message: "the database system is shutting down"}
	InRecovery     = Refusal{Code: "57P03", Message: "the database system is in recovery mode"}
	TooManyClients = Refusal{Code: "53300", Message: "sorry, too many clients already"}
	AuthTimeout    = Refusal{Code: "57014", Message: "canceling authentication due to timeout", After: true}
	Terminated     = Refusal{Code: "57P01", Message: "terminating connection due to administrator command", After: true}
	ReservedSlots  = Refusal{Code: "53300", Message: "remaining connection slots are reserved for non-replication superuser connections", After: true}

	TooManyOfRole     = Refusal{Code: "53300", Message: `too many connections for role "app"`, After: true}
	TooManyOfDatabase = Refusal{Code: "53300", Message: `too many connections for database "app"`, After: true}
	OutOfMemory       = Refusal{Code: "53200", Message: "out of memory", After: true}
	DiskFull          = Refusal{Code: "53100", Message: `could not write to file "base/pgsql_tmp/pgsql_tmp": No space left on device`, After: true}
	NoConnections     = Refusal{Code: "55000", Message: `database "app" is not currently accepting connections`, After: true}
	NotPermitted      = Refusal{Code: "42501", Message: `permission denied for database "app"`, After: true}
)

// What Aurora DSQL says. Sources: Aurora DSQL User Guide, "Cluster quotas and
// database limits"; reports of users, who saw the denial under 28000 and 08006,
// and do not give the SQLSTATE of a cluster that wakes up.
var (
	DSQLDenied = Refusal{
		Code: "08006", Message: "unable to accept connection, access denied", After: true,
		Hint: "User: arn:aws:sts::123456789012:assumed-role/pooler/1f2e3d is not authorized to perform: dsql:DbConnect",
	}
	DSQLTooOld      = Refusal{Code: "08006", Message: "unable to accept connection, access denied", After: true, Hint: "Signature expired: 20261123T164244Z is now earlier than 20261123T170000Z"}
	DSQLWakesUp     = Refusal{Code: "08006", Message: "unable to accept connection, waking up cluster, please retry later", After: true}
	DSQLTooManyOpen = Refusal{Code: "53300", Message: "Unable to accept connection, too many open connections", After: true}
	DSQLTooFast     = Refusal{Code: "53400", Message: "Unable to accept connection, rate exceeded", After: true}
)

// What RDS Proxy says. Source: Amazon RDS User Guide, "Troubleshooting for RDS
// Proxy"; the guide does not give the SQLSTATEs. Users have seen 28P01 for a
// token that is refused for a role.
var (
	ProxyRoleRefused     = Refusal{Code: "28P01", Message: "The IAM authentication failed for the role app. Check the IAM token for this role and try again.", After: true}
	ProxyWrongPassword   = Refusal{Code: "28P01", Message: "The password that was provided for the role app is wrong.", After: true}
	ProxyTooManyClients  = Refusal{Code: "08004", Message: "The maximum number of client connections to the proxy exceeded 1000.", After: true}
	ProxyTooFast         = Refusal{Code: "08004", Message: "Rate of connection to proxy exceeded 100.", After: true}
	ProxyTooManyRequests = Refusal{Code: "28000", Message: "The IAM authentication failed because of too many competing requests.", After: true}
	ProxyNoSecret        = Refusal{Code: "28000", Message: "This RDS proxy has no credentials for the role app. Check the credentials for this role and try again.", After: true}
	ProxyTokenRefused    = Refusal{Code: "28000", Message: "IAM authentication failed for user app. Check the IAM token for this user and try again.", After: true}
	ProxyOtherMethod     = Refusal{Code: "28000", Message: "RDS Proxy supports only IAM, MD5, or SCRAM authentication.", After: true}
	ProxyNoConnection    = Refusal{Code: "08000", Message: "Timed-out waiting to acquire database connection.", After: true}
)

// RDSLogin is one attempt to log in with a token.
type RDSLogin struct {
	At     time.Time // by time.Now, whatever the clock of the stand-in says
	User   string
	Key    string // the access key's ID, if the token is one at all
	Reason Reason // why it was refused; "": it was not
}

// Logins returns all attempts to log in with a token, in order.
func (r *RDS) Logins() []RDSLogin {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.logins)
}

// BusiestSecond returns the most attempts to log in with a token that came
// within any one second.
func (r *RDS) BusiestSecond() int {
	logins := r.Logins()
	slices.SortFunc(logins, func(a, b RDSLogin) int { return a.At.Compare(b.At) })
	most, from := 0, 0
	for i := range logins {
		for logins[i].At.Sub(logins[from].At) >= time.Second {
			from++
		}
		most = max(most, i-from+1)
	}
	return most
}

func (r *RDS) logLogin(at time.Time, user string, key AccessKey, err error) {
	l := RDSLogin{At: at, User: user, Key: key.ID}
	if refused, ok := errors.AsType[*TokenError](err); ok {
		l.Reason = refused.Reason
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.logins = append(r.logins, l)
}

// refusal returns the error that is to end the session's login at this point,
// nil for none.
func (s *rdsSession) refusal(after bool) error {
	if r := s.knobs.Refusal; r != nil && r.After == after {
		e := fatal(r.Code, "postmaster.c", 2416, "ProcessStartupPacket", "%s", r.Message)
		e.response.Hint = r.Hint
		return e
	}
	return nil
}
