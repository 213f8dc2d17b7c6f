package backendtest

import "fmt"

// Reason says why the stand-in for RDS refused a login.
type Reason string

// The reasons that concern a token. The client cannot tell them apart.
const (
	Malformed          Reason = "malformed"           // not a token, or not one for RDS
	BadSignature       Reason = "bad signature"       // signed with another secret, or altered
	UnknownKey         Reason = "unknown key"         // an access key that does not exist
	RevokedKey         Reason = "revoked key"         // an access key that exists no more
	WrongSessionToken  Reason = "wrong session token" // missing, superfluous, or not this key's
	WrongHost          Reason = "wrong host"          // signed for an endpoint that this is not
	WrongRegion        Reason = "wrong region"        // signed for another region
	WrongUser          Reason = "wrong user"          // signed for another user than the startup message's
	NotYetValid        Reason = "not yet valid"       // signed by a clock that is ahead
	Expired            Reason = "expired"             // older than 15 minutes
	CredentialsExpired Reason = "credentials expired" // younger, but signed with credentials that have expired
	NotAuthorized      Reason = "not authorized"      // the policy does not allow this user
	Throttled          Reason = "throttled"           // too many logins per second
	InternalError      Reason = "internal error"      // what RejectAll says
)

// The reasons for which no token is looked at.
const (
	NoTLS         Reason = "no TLS"         // a startup message in cleartext
	EmptyPassword Reason = "empty password" // instead of a token
	NotIAM        Reason = "not in rds_iam" // a user that has to authenticate by password
)

// TokenError is how TokenCheck refuses a token. It quotes nothing secret.
type TokenError struct {
	Reason Reason
	Detail string
}

func (e *TokenError) Error() string { return string(e.Reason) + ": " + e.Detail }

// logLine returns the line that RDS writes to its iam-db-auth-error log for a
// token refused for reason r.
// https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.Troubleshooting.html
func (r Reason) logLine(user, principal string) string {
	authenticate := "Failed to authenticate the connection request for user " + user + " "
	switch r {
	case Expired:
		return authenticate + "because the token age is longer than 15 minutes. (Status Code: 400, Error Code: ExpiredToken)"
	case NotAuthorized:
		return fmt.Sprintf("Failed to authorize the connection request for user %s because the IAM policy assumed by the caller '%s' is not authorized to perform rds-db:connect on the DB instance. (Status Code: 403, Error Code: NotAuthorized)", user, principal)
	case Throttled:
		return authenticate + "due to IAM DB authentication throttling. (Status Code: 429, Error Code: ThrottlingException)"
	case InternalError:
		return authenticate + "due to an internal IAM DB authentication error. (Status Code: 500, Error Code: InternalError)"
	default:
		return authenticate + "because the provided token is malformed or otherwise invalid. (Status Code: 400, Error Code: InvalidToken)"
	}
}
