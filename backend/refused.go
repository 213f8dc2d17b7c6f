package backend

import (
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgvalet/pgvalet/auth"
	"github.com/pgvalet/pgvalet/config"
)

// refusedHint is what clients are told of a token that the server refused. action
// is what an IAM policy has to allow.
func refusedHint(action string) string {
	const (
		clock = "that this machine's clock is right; and that the credentials have not expired (nobody renews those in AWS_SESSION_TOKEN)"
		log   = " The pooler's log says what was signed"
	)
	if isDSQL(action) {
		return "Check that an IAM policy allows " + action + " on the cluster, and that its role is granted to the IAM role (AWS IAM GRANT; admin needs none); " +
			"that tokens are signed for the cluster's own name and region (iam_host, iam_region); " + clock + "." + log + "."
	}
	return "Check that an IAM policy allows " + action + " for this user on the resource ID (not the name) of the instance or cluster; " +
		"that tokens are signed for the endpoint's own name, port and region (iam_host, iam_port, iam_region); " + clock + "." +
		log + "; RDS's log export iam-db-auth-error says why it was refused. " +
		"If many logins succeeded just before, RDS may be throttling them, which passes by itself: look at iam_login_rate."
}

// notAskedHint is what clients are told when the server asks for another proof
// than a token. RDS asks a member of both rds_iam and rds_ad for Kerberos, and the
// database behind a proxy is not who asks.
func (t *Target) notAskedHint(method uint32) string {
	switch {
	case isProxy(t.IAM.Key.Host) || isProxy(t.Host):
		return "RDS Proxy does not ask this role for a token: set IAMAuth to REQUIRED for it, or DefaultAuthScheme to IAM_AUTH; GRANT rds_iam is for the latter only."
	case method == pgproto3.AuthTypeGSS || method == pgproto3.AuthTypeSSPI:
		return "RDS asks for Kerberos: REVOKE rds_ad FROM this role, and from the roles that it is a member of."
	}
	if t.Replication != NoReplication {
		return grantHint + " For replication rds.iam_auth_for_replication has to be 1 in the parameter group."
	}
	return grantHint
}

// isProxy reports whether a host name is that of an RDS Proxy.
func isProxy(host string) bool {
	return isRDS(host) && strings.Contains(strings.ToLower(host), ".proxy-")
}

func isDSQL(action string) bool { return strings.HasPrefix(action, "dsql:") }

// whyRefused lists for the log what an operator can check. The server does not
// say which it is.
func (t *Target) whyRefused(s signature, suspicion string) string {
	if suspicion != "" {
		suspicion += " "
	}
	action, partition := t.IAM.Key.Action(), config.Partition(s.region)
	begin := fmt.Sprintf("IAM token refused, signed for %s. %sCheck that ", s, suspicion)
	if isDSQL(action) {
		return begin + fmt.Sprintf("(1) an IAM policy of that access key allows %s on arn:%s:dsql:%s:ACCOUNT:cluster/CLUSTER-ID; "+
			"(2) the role %q is granted to that IAM role (AWS IAM GRANT; admin needs none); "+
			"(3) host is the cluster's own name, not an alias or a tunnel (iam_host); "+
			"(4) the region is the cluster's; "+
			"(5) this machine's clock is right; "+
			"(6) the credentials had not expired",
			action, partition, s.region, t.User)
	}
	return begin + fmt.Sprintf("(1) an IAM policy of that access key allows %s on arn:%s:rds-db:%s:ACCOUNT:dbuser:RESOURCE-ID/%s, with the instance's or cluster's resource ID, and no permissions boundary, service control policy or condition keeps it from doing so; "+
		"(2) host and port are the endpoint's own, not an alias or a tunnel (iam_host, iam_port); "+
		"(3) the region is the database's; "+
		"(4) the user is the role's name, in the same case; "+
		"(5) this machine's clock is right; "+
		"(6) the credentials had not expired; "+
		"(7) RDS was not restarting or throttling (200 IAM logins a second). "+
		"RDS's log export iam-db-auth-error and the metrics IamDbAuthConnectionFailure* say which",
		action, partition, s.region, t.User)
}

// suspicion is what the names alone say is wrong with what was signed, when the
// server has said that. It names no address.
func (s signature) suspicion(said string) string {
	host, _, err := net.SplitHostPort(s.endpoint)
	if err != nil { // DSQL's has no port
		host = s.endpoint
	}
	region, known := config.RegionFromHost(host)
	switch {
	case host == "?":
		return ""
	case !known && !isRDS(host):
		return "The name that tokens are signed for is not that of an RDS or DSQL endpoint: if it is an alias, or that of a tunnel, iam_host must say the endpoint's own name."
	case known && region != s.region:
		return fmt.Sprintf("Tokens are signed for region %s, but the endpoint's name says %s (iam_region).", s.region, region)
	case isProxy(host) && strings.HasPrefix(said, "PAM authentication failed"):
		// A proxy has words of its own for a token that it does not take.
		return "This is what the database says to RDS Proxy: with IAM from end to end, the proxy's own role must be allowed rds-db:connect on the database too."
	}
	return ""
}

// signature is what a token says about itself. It holds nothing secret.
type signature struct{ endpoint, region, user, key, date string }

func (s signature) String() string {
	return fmt.Sprintf("host and port %s, region %s, user %q, by access key …%s at %s", s.endpoint, s.region, s.user, s.key, s.date)
}

// signedFor reads what the token's signature covers; what it cannot find is
// shown as a question mark. The format: SigV4 query parameters, see the AWS IAM
// User Guide, "Create a signed AWS API request".
func signedFor(token auth.Token) signature {
	s := signature{"?", "?", "?", "?", "?"}
	u, err := url.Parse("https://" + token.Reveal())
	if err != nil {
		return s
	}
	q := u.Query()
	set := func(field *string, v string) {
		if v != "" {
			*field = v
		}
	}
	set(&s.endpoint, u.Host)
	set(&s.user, q.Get("DBUser"))
	set(&s.date, q.Get("X-Amz-Date"))
	// access key ID/date/region/service/aws4_request
	if scope := strings.Split(q.Get("X-Amz-Credential"), "/"); len(scope) == 5 {
		set(&s.region, scope[2])
		set(&s.key, scope[0][max(0, len(scope[0])-4):])
	}
	return s
}
