package main

import (
	"crypto/sha1"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgvalet/pgvalet/backend/backendtest"
)

var faults = []fault{
	{
		name: "no credentials found", source: backendtest.AWSIMDS, plain: true,
		prepare: awsKnobs(backendtest.AWSIMDS, func(k *backendtest.AWSKnobs) { k.Status = 404 }), mend: sourceWell(backendtest.AWSIMDS),
		code: "28000", says: "server login failed: no IAM token: no aws credentials found", hint: "Set AWS_ACCESS_KEY_ID or AWS_PROFILE", reason: "no_credentials",
	},
	{
		name: "credentials expired", source: backendtest.AWSContainer, plain: true,
		prepare: containerSay(func(k *backendtest.AWSKnobs) { k.Life = -time.Minute }), mend: sourceWell(backendtest.AWSContainer),
		code: "28000", says: "no IAM token: aws credentials expired", hint: "Renew them at their source", reason: "credentials_expired",
	},
	{
		name: "role not assumable", plain: true, prepare: roleInProfile, mend: sourceWell(backendtest.AWSSTS),
		code: "28000", says: "no IAM token: role cannot be assumed", hint: "trust policy", reason: "role_not_assumable",
	},
	{
		name: "web identity token expired", source: backendtest.AWSSTS, plain: true,
		prepare: awsKnobs(backendtest.AWSSTS, func(k *backendtest.AWSKnobs) { k.Status, k.Code = 400, "ExpiredTokenException" }), mend: sourceWell(backendtest.AWSSTS),
		code: "28000", says: "no IAM token: web identity token not accepted", hint: "Is the token file renewed", reason: "web_identity_refused",
	},
	{
		name: "web identity not trusted by the role", source: backendtest.AWSSTS, plain: true,
		prepare: awsKnobs(backendtest.AWSSTS, func(k *backendtest.AWSKnobs) { k.Status, k.Code = 403, "AccessDenied" }), mend: sourceWell(backendtest.AWSSTS),
		code: "28000", says: "no IAM token: web identity token not accepted", hint: "does the role's trust policy name its issuer", reason: "web_identity_refused",
	},
	{
		name: "web identity token missing", source: backendtest.AWSSTS, plain: true,
		prepare: func(r *faultRig) {
			if err := os.Remove(r.path("web-identity-token")); err != nil {
				r.t.Fatal(err)
			}
		},
		mend: func(r *faultRig) { r.write("web-identity-token", "web-identity-jwt") },
		code: "28000", says: "no IAM token: web identity token unreadable", hint: "AWS_WEB_IDENTITY_TOKEN_FILE", reason: "web_identity_refused",
	},
	{
		name: "STS throttles", source: backendtest.AWSSTS, plain: true,
		prepare: func(r *faultRig) { // the SDK gives up before the pooler does
			r.env = append(r.env, "AWS_MAX_ATTEMPTS=1")
			awsKnobs(backendtest.AWSSTS, func(k *backendtest.AWSKnobs) { k.Status, k.Code = 400, "Throttling" })(r)
		}, mend: sourceWell(backendtest.AWSSTS),
		code: "28000", says: "no IAM token: credential endpoint throttles", hint: "asked again by itself", reason: "credentials_unreachable",
	},
	{
		name: "STS not active in the region", source: backendtest.AWSSTS, plain: true,
		prepare: awsKnobs(backendtest.AWSSTS, func(k *backendtest.AWSKnobs) { k.Status, k.Code = 403, "RegionDisabledException" }), mend: sourceWell(backendtest.AWSSTS),
		code: "28000", says: "no IAM token: sts not active in the region", hint: "Activate STS", reason: "credentials_unreachable",
	},
	{
		name: "role assumed by a role for more than an hour", plain: true, mend: sourceWell(backendtest.AWSSTS),
		prepare: func(r *faultRig) {
			roleInProfile(r)
			r.aws.Set(backendtest.AWSSTS, func(k *backendtest.AWSKnobs) {
				k.Status, k.Code = 400, "ValidationError"
				k.Message = "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining"
			})
		},
		code: "28000", says: "no IAM token: role cannot be assumed for so long", hint: "duration_seconds", reason: "role_not_assumable",
	},
	{
		name: "credential endpoint refuses", source: backendtest.AWSContainer, plain: true,
		prepare: containerSay(func(k *backendtest.AWSKnobs) { k.Status, k.Code = 400, "AccessDeniedException" }), mend: sourceWell(backendtest.AWSContainer),
		code: "28000", says: "no IAM token: credential endpoint refused", hint: "Look at the role of the task, pod or instance", reason: "credentials_unreachable",
	},
	{
		name: "credential endpoint hangs", source: backendtest.AWSContainer, plain: true,
		prepare: func(r *faultRig) { // the pooler gives up before the SDK does
			r.conf.set("server_connect_timeout", "1s")
			containerSay(func(k *backendtest.AWSKnobs) { k.Hang = true })(r)
		}, mend: sourceWell(backendtest.AWSContainer),
		code: "28000", says: "no IAM token: the source of the aws credentials does not answer", hint: "VPC endpoint", reason: "credentials_unreachable",
	},
	{
		name: "credential endpoint cut off", source: backendtest.AWSContainer, plain: true,
		prepare: func(r *faultRig) { // the SDK gives up before the pooler does
			r.conf.set("server_connect_timeout", "15s")
			r.conf.set("client_login_timeout", "20s")
			r.conf.set("query_wait_timeout", "20s")
			containerSay(func(k *backendtest.AWSKnobs) { k.Drop = true })(r)
		}, mend: sourceWell(backendtest.AWSContainer),
		code: "28000", says: "no IAM token: credential endpoint cannot be reached", hint: "VPC endpoint", reason: "credentials_unreachable",
	},
	{
		name: "profile not found", plain: true, mend: func(r *faultRig) { r.write("aws-config", "[profile pooler]\n"+keyOf(accessKey)) },
		prepare: func(r *faultRig) {
			r.sharedConfig("[default]\n")
			r.env = append(r.env, "AWS_PROFILE=pooler")
		},
		code: "28000", says: "no IAM token: aws profile not found", hint: "Look at iam_profile or AWS_PROFILE", reason: "no_credentials",
	},
	{
		name: "profile refers to nothing", plain: true, mend: func(r *faultRig) { r.write("aws-config", "[default]\n"+keyOf(accessKey)) },
		prepare: func(r *faultRig) {
			r.sharedConfig("[default]\nrole_arn = arn:aws:iam::123456789012:role/pooler\nsource_profile = nowhere\n")
		},
		code: "28000", says: "no IAM token: aws configuration unusable", hint: "Look at the shared configuration files", reason: "no_credentials",
	},
	{
		name: "half a key in a profile", plain: true, mend: func(r *faultRig) { r.write("aws-config", "[default]\n"+keyOf(accessKey)) },
		prepare: func(r *faultRig) { r.sharedConfig("[default]\naws_access_key_id = " + accessKey.ID + "\n") },
		code:    "28000", says: "no IAM token: aws credentials incomplete", hint: "Set both the access key ID and the secret access key", reason: "no_credentials",
	},
	{
		name: "credential_process fails", plain: true, mend: func(r *faultRig) { r.write("process", "echo '"+processOutput(accessKey)+"'\n") },
		prepare: func(r *faultRig) {
			r.write("process", "echo "+accessKey.Secret+"; exit 1\n")
			r.sharedConfig("[default]\ncredential_process = sh " + r.path("process") + "\n")
		},
		code: "28000", says: "no IAM token: credential_process failed", hint: "Run it by hand", reason: "credentials_unreachable",
	},
	{
		name: "SSO session over", source: backendtest.AWSSSO, plain: true,
		mend: func(r *faultRig) {
			session := fmt.Sprintf(".aws/sso/cache/%x.json", sha1.Sum([]byte("corp")))
			if err := os.MkdirAll(filepath.Dir(r.path(session)), 0o700); err != nil {
				r.t.Fatal(err)
			}
			r.write(session, r.aws.SSOToken(time.Now().Add(time.Hour), false))
		},
		recovery: `"aws sso login"`,
		code:     "28000", says: "no IAM token: aws login session over", hint: "aws sso login", reason: "credentials_expired",
	},
	{
		name: "access key deleted", plain: true, mend: sourceWell(backendtest.AWSSTS),
		prepare: func(r *faultRig) {
			roleInProfile(r)
			r.aws.Set(backendtest.AWSSTS, func(k *backendtest.AWSKnobs) { k.Status, k.Code = 403, "InvalidClientTokenId" })
		},
		code: "28000", says: "no IAM token: aws access key not valid", hint: "Has the key been deleted", reason: "credentials_expired",
	},
	{
		name: "clock wrong, says STS", plain: true, mend: sourceWell(backendtest.AWSSTS),
		prepare: func(r *faultRig) {
			roleInProfile(r)
			r.aws.Set(backendtest.AWSSTS, func(k *backendtest.AWSKnobs) { *k = backendtest.AWSKnobs{ClockOffset: 20 * time.Minute} })
		},
		code: "28000", says: "no IAM token: this machine's clock is wrong", hint: "Set it (chrony", reason: "clock_wrong",
	},
	{
		name: "clock 20 minutes slow", strike: knobs(func(k *backendtest.Knobs) { k.ClockOffset = 20 * time.Minute }), mend: wellAgain,
		code: "28000", says: "PAM authentication failed for user", hint: "this machine's clock is right", reason: "token_refused",
	},
	{
		name: "clock 20 minutes fast", strike: knobs(func(k *backendtest.Knobs) { k.ClockOffset = -20 * time.Minute }), mend: wellAgain,
		code: "28000", says: "PAM authentication failed for user", hint: "this machine's clock is right", reason: "token_refused",
	},
	{
		// The SDK takes them for valid: only RDS knows.
		name: "temporary credentials of the environment expired", recovery: "start with new ones, or with a source that renews them",
		strike: func(r *faultRig) {
			key := accessKey
			key.Expires = time.Now().Add(-time.Minute)
			r.rds.AddKey(key)
		},
		mend: func(r *faultRig) { r.rds.AddKey(accessKey) },
		code: "28000", says: "PAM authentication failed for user", hint: "nobody renews those in AWS_SESSION_TOKEN", reason: "token_refused",
	},
	{
		name: "wrong region", prepare: audit("iam_region", "eu-west-1"), mend: restoring(audit("iam_region", "us-east-1")), recovery: "RELOAD with the right iam_region",
		code: "28000", says: "PAM authentication failed for user", hint: "signed for region eu-west-1, but the endpoint's name says us-east-1", reason: "token_refused",
	},
	{
		name: "alias signed instead of the endpoint", recovery: "RELOAD with the right iam_host",
		prepare: func(r *faultRig) {
			r.conf.databases["audit"]["iam_region"] = "us-east-1"
			r.conf.databases["audit"]["server_tls_name"] = backendtest.DefaultRDSHost
			audit("iam_host", "db.internal.example")(r)
		},
		mend: restoring(audit("iam_host", backendtest.DefaultRDSHost)),
		code: "28000", says: "PAM authentication failed for user", hint: "is not that of an RDS or DSQL endpoint", reason: "token_refused",
	},
	{
		name: "token refused, later accepted", strike: knobs(func(k *backendtest.Knobs) { k.RejectAll = true }), mend: wellAgain,
		code: "28000", says: "PAM authentication failed for user", hint: "rds-db:connect", reason: "token_refused",
	},
	{
		name: "RDS throttles logins", strike: knobs(func(k *backendtest.Knobs) { k.PerSecond = -1 }), mend: wellAgain,
		code: "28000", says: "PAM authentication failed for user", hint: "RDS may be throttling them, which passes by itself: look at iam_login_rate", reason: "token_refused",
	},
	{
		name: "role not in rds_iam, SCRAM asked", strike: knobs(func(k *backendtest.Knobs) { k.IAMUsers = nil }), mend: memberAgain,
		code: "28000", says: "server login failed: server did not ask for a cleartext password", hint: "GRANT rds_iam", reason: "not_in_rds_iam",
	},
	{
		name: "role not in rds_iam, md5 asked", strike: knobs(func(k *backendtest.Knobs) { k.IAMUsers, k.Challenge = nil, backendtest.MD5 }), mend: memberAgain,
		code: "28000", says: "server login failed: server did not ask for a cleartext password", hint: "GRANT rds_iam", reason: "not_in_rds_iam",
	},
	{
		name: "certificate of another authority", recovery: "RELOAD with the new bundle",
		prepare: func(r *faultRig) { r.hostIsRDS() },
		strike: func(r *faultRig) {
			if err := r.rds.RotateCA(); err != nil {
				r.t.Fatal(err)
			}
		},
		mend: func(r *faultRig) { r.trust(); r.reload() },
		code: "08001", says: "server certificate verify failed", hint: "curl -O https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem", reason: "certificate",
	},
	{
		name: "certificate of another name", recovery: "RELOAD with the right server_tls_name",
		prepare: audit("server_tls_name", "other.cluster-c0abcdefghij.us-east-1.rds.amazonaws.com"), mend: restoring(audit("server_tls_name", backendtest.DefaultRDSHost)),
		code: "08001", says: "server certificate verify failed", hint: "server_tls_name", reason: "certificate",
	},
	{
		name: "certificate expired", mend: certificateUntil(time.Hour), strike: certificateUntil(-time.Minute),
		code: "08001", says: "server certificate verify failed", hint: "It has expired", reason: "certificate",
	},
	{
		name: "no TLS at the server", strike: knobs(func(k *backendtest.Knobs) { k.NoTLS = true }), mend: wellAgain,
		code: "08001", says: "server refused SSL", hint: "The server has no TLS", reason: "tls",
	},
	{
		name: "no version of TLS in common", prepare: func(r *faultRig) { r.conf.set("server_tls_protocols", "tlsv1.3") },
		strike: knobs(func(k *backendtest.Knobs) { k.MaxTLS = tls.VersionTLS12 }), mend: wellAgain,
		code: "08001", says: "server TLS handshake failed", hint: "server_tls_protocols", reason: "tls",
	},
	{
		name: "database starts", strike: refusal(backendtest.StartingUp), mend: wellAgain,
		code: "08001", says: "client_login_timeout (server down): the database system is starting up", hint: "tried again by itself", reason: "not_ready",
	},
	{
		name: "database recovers", strike: refusal(backendtest.InRecovery), mend: wellAgain,
		code: "08001", says: "client_login_timeout (server down): the database system is in recovery mode", hint: "tried again by itself", reason: "not_ready",
	},
	{
		name: "database shuts down", strike: refusal(backendtest.ShuttingDown), mend: wellAgain,
		code: "08001", says: "client_login_timeout (server down): the database system is shutting down", hint: "tried again by itself", reason: "not_ready",
	},
	{
		name: "database restarts in the middle of a login", strike: refusal(backendtest.Terminated), mend: wellAgain,
		code: "08001", says: "client_login_timeout (server down): terminating connection due to administrator command", hint: "tried again by itself", reason: "not_ready",
	},
	{
		name: "database has no time for the login", strike: refusal(backendtest.AuthTimeout), mend: wellAgain,
		code: "08001", says: "client_login_timeout (server down): canceling authentication due to timeout", hint: "authentication_timeout", reason: "timeout",
	},
	{
		name: "no such database", prepare: audit("dbname", "nowhere"), mend: restoring(func(r *faultRig) { r.conf.databases["audit"]["dbname"] = r.conf.databases["shop"]["dbname"] }),
		recovery: "RELOAD with the right dbname",
		code:     "3D000", says: `database "nowhere" does not exist`, hint: "Check dbname", reason: "no_database",
	},
	{
		name: "database not for this user", strike: sql("REVOKE CONNECT ON DATABASE $d FROM PUBLIC, $d"), mend: sql("GRANT CONNECT ON DATABASE $d TO $d"),
		code: "42501", says: "permission denied for database", hint: "the user may CONNECT to it", reason: "no_database",
	},
	{
		name: "database takes no connections", strike: sql("ALTER DATABASE $d ALLOW_CONNECTIONS false"), mend: sql("ALTER DATABASE $d ALLOW_CONNECTIONS true"),
		code: "55000", says: "is not currently accepting connections", hint: "ALLOW_CONNECTIONS", reason: "no_database",
	},
	{
		name: "role may not log in", strike: sql("ALTER ROLE $d NOLOGIN"), mend: sql("ALTER ROLE $d LOGIN"),
		code: "28000", says: "is not permitted to log in", hint: "ALTER ROLE … LOGIN", reason: "role_refused",
	},
	{
		name: "connections of the role used up", strike: sql("ALTER ROLE $d CONNECTION LIMIT 1"), mend: sql("ALTER ROLE $d CONNECTION LIMIT -1"),
		code: "53300", says: "too many connections for role", hint: "ALTER ROLE … CONNECTION LIMIT", reason: "server_full",
	},
	{
		name: "connections of the database used up", strike: sql("ALTER DATABASE $d CONNECTION LIMIT 1"), mend: sql("ALTER DATABASE $d CONNECTION LIMIT -1"),
		code: "53300", says: "too many connections for database", hint: "ALTER DATABASE … CONNECTION LIMIT", reason: "server_full",
	},
	{
		name: "server out of memory", strike: refusal(backendtest.OutOfMemory), mend: wellAgain,
		code: "53200", says: "out of memory", hint: "FreeableMemory", reason: "server_full",
	},
	{
		name: "storage full", strike: refusal(backendtest.DiskFull), mend: wellAgain,
		code: "53100", says: "No space left on device", hint: "FreeStorageSpace", reason: "server_full",
	},
	{
		name: "no process for the connection", strike: knobs(func(k *backendtest.Knobs) { k.NoProcess = true }), mend: wellAgain,
		code: "08001", says: "client_login_timeout (server down): server conn crashed?", hint: "cannot start a process", reason: "server_full",
	},
	{
		name: "database full", strike: refusal(backendtest.TooManyClients), mend: wellAgain,
		code: "53300", says: "sorry, too many clients already", hint: "max_connections", reason: "server_full",
	},
	{
		name: "only reserved connections left", strike: refusal(backendtest.ReservedSlots), mend: wellAgain,
		code: "53300", says: "remaining connection slots are reserved", hint: "max_connections", reason: "server_full",
	},
	{
		name: "endpoint hangs up", strike: knobs(func(k *backendtest.Knobs) { k.Refuse = true }), mend: wellAgain,
		code: "08001", says: "client_login_timeout (server down): server", hint: "tried again by itself", reason: "hung_up",
	},
	{
		name: "endpoint does not answer", strike: knobs(func(k *backendtest.Knobs) { k.AcceptLatency = time.Hour }), mend: wellAgain,
		code: "08001", says: "client_login_timeout (server down): connect timeout", hint: "security groups", reason: "timeout",
	},
	{
		name: "packets are not answered", prepare: partitioned, mend: func(r *faultRig) { r.partition.Heal(r.rds.Addr()) },
		code: "08001", says: "client_login_timeout (server down): connect timeout", hint: "security groups", reason: "timeout",
	},
	{
		name: "host has no address", prepare: audit("host", "nosuchhost.invalid"), mend: restoring(audit("host", "127.0.0.1")), recovery: "RELOAD with the right host",
		code: "08001", says: "client_login_timeout (server down): server DNS lookup failed", hint: "Check the name in host", reason: "dns",
	},
	{
		name: "nobody listens", prepare: audit("port", 1), mend: func(r *faultRig) { r.conf.databases["audit"]["port"] = r.conf.databases["shop"]["port"]; r.reload() },
		recovery: "RELOAD with the right port",
		code:     "08001", says: "client_login_timeout (server down): connect failed", hint: "Check host and port", reason: "unreachable",
	},
	{
		name: "token too long for the server", prepare: longSessionToken, strike: knobs(func(k *backendtest.Knobs) { k.MaxToken = 4096 }), mend: wellAgain,
		code: "08001", says: "client_login_timeout (server down): server conn crashed?", hint: "session token", reason: "token_too_long",
	},
	{
		name: "TLS demanded (rds.force_ssl)", plain: true, prepare: withoutTLS, recovery: "RELOAD with server_tls_sslmode = verify-full",
		mend: func(r *faultRig) {
			r.conf.set("server_tls_sslmode", "verify-full")
			s := r.conf.databases["audit"]
			delete(s, "password")
			s["server_auth"], s["iam_host"] = "iam", backendtest.DefaultRDSHost
			r.reload()
		},
		code: "28000", says: "no encryption", hint: "server_tls_sslmode", reason: "hba_refused",
	},
	{
		name: "RDS Proxy: too many requests", strike: refusal(backendtest.ProxyTooManyRequests), mend: wellAgain,
		code: "28000", says: "The IAM authentication failed because of too many competing requests.", hint: "iam_login_rate", reason: "throttled",
	},
	{
		name: "RDS Proxy: token refused", strike: refusal(backendtest.ProxyTokenRefused), mend: wellAgain,
		code: "28000", says: "IAM authentication failed for user", hint: "the proxy's own resource ID (prx-…)", reason: "token_refused",
	},
	{
		name: "RDS Proxy: token refused for the role", strike: refusal(backendtest.ProxyRoleRefused), mend: wellAgain,
		code: "28P01", says: "The IAM authentication failed for the role", hint: "the proxy's own resource ID (prx-…)", reason: "token_refused",
	},
	{
		name: "RDS Proxy: a password is asked of the role", strike: refusal(backendtest.ProxyWrongPassword), mend: wellAgain,
		code: "28P01", says: "The password that was provided for the role", hint: "the proxy must require IAM authentication", reason: "password_refused",
	},
	{
		name: "RDS Proxy: too many clients", strike: refusal(backendtest.ProxyTooManyClients), mend: wellAgain,
		code: "08004", says: "The maximum number of client connections", hint: "The proxy takes no more clients", reason: "server_full",
	},
	{
		name: "RDS Proxy: too many logins", strike: refusal(backendtest.ProxyTooFast), mend: wellAgain,
		code: "08004", says: "Rate of connection to proxy exceeded", hint: "iam_login_rate", reason: "throttled",
	},
	{
		name: "RDS Proxy: another method than IAM", strike: refusal(backendtest.ProxyOtherMethod), mend: wellAgain,
		code: "28000", says: "RDS Proxy supports only IAM, MD5, or SCRAM authentication.", hint: "Set the authentication of this role", reason: "hba_refused",
	},
	{
		name: "RDS Proxy: no secret for the role", strike: refusal(backendtest.ProxyNoSecret), mend: wellAgain,
		code: "28000", says: "This RDS proxy has no credentials for the role", hint: "Secrets Manager", reason: "no_database",
	},
	{
		name: "RDS Proxy: no connection to spare", strike: refusal(backendtest.ProxyNoConnection), mend: wellAgain,
		code: "08000", says: "Timed-out waiting to acquire database connection.", hint: "MaxConnectionsPercent", reason: "server_full",
	},
	{
		name: "Aurora DSQL: token denied", dsql: true, strike: refusal(backendtest.DSQLDenied), mend: wellAgain,
		code: "08006", says: "unable to accept connection, access denied", hint: "allows dsql:DbConnect on the cluster", reason: "token_refused",
	},
	{
		name: "Aurora DSQL: token too old", dsql: true, strike: refusal(backendtest.DSQLTooOld), mend: wellAgain,
		code: "08006", says: "unable to accept connection, access denied", hint: "this machine's clock is slow", reason: "token_refused",
	},
	{
		name: "Aurora DSQL: cluster wakes up", dsql: true, strike: refusal(backendtest.DSQLWakesUp), mend: wellAgain,
		code: "08001", says: "client_login_timeout (server down): unable to accept connection, waking up cluster", hint: "tried again by itself", reason: "not_ready",
	},
	{
		name: "Aurora DSQL: too many logins", dsql: true, strike: refusal(backendtest.DSQLTooFast), mend: wellAgain,
		code: "53400", says: "Unable to accept connection, rate exceeded", hint: "iam_login_rate", reason: "throttled",
	},
	{
		name: "Aurora DSQL: too many sessions", dsql: true, strike: refusal(backendtest.DSQLTooManyOpen), mend: wellAgain,
		code: "53300", says: "Unable to accept connection, too many open connections", hint: "quota of connections", reason: "server_full",
	},
}

func knobs(change func(k *backendtest.Knobs)) func(*faultRig) {
	return func(r *faultRig) { r.rds.Set(change) }
}

func refusal(e backendtest.Refusal) func(*faultRig) {
	return knobs(func(k *backendtest.Knobs) { k.Refusal = &e })
}

// sql runs a statement past the pooler, as the superuser; $d is the name of the
// database and of the role.
func sql(statement string) func(*faultRig) {
	return func(r *faultRig) {
		if err := r.d.pg.Exec(testContext(r.t), strings.ReplaceAll(statement, "$d", r.d.name)); err != nil {
			r.t.Fatal(err)
		}
	}
}

// certificateUntil has the server show another certificate.
func certificateUntil(d time.Duration) func(*faultRig) {
	return func(r *faultRig) {
		if err := r.rds.RenewCertificate(time.Now().Add(d)); err != nil {
			r.t.Fatal(err)
		}
	}
}

func awsKnobs(s backendtest.AWSService, change func(k *backendtest.AWSKnobs)) func(*faultRig) {
	return func(r *faultRig) { r.aws.Set(s, change) }
}

// audit changes one key of the database "audit".
func audit(key string, value any) func(*faultRig) {
	return func(r *faultRig) { r.conf.databases["audit"][key] = value }
}

// restoring makes the change and reloads.
func restoring(change func(*faultRig)) func(*faultRig) {
	return func(r *faultRig) { change(r); r.reload() }
}

var (
	wellAgain = knobs(func(k *backendtest.Knobs) {
		k.NoTLS, k.MaxTLS, k.NoProcess = false, 0, false
		k.Refusal, k.RejectAll, k.MaxToken, k.ClockOffset, k.PerSecond, k.Refuse, k.AcceptLatency = nil, false, 0, 0, 0, false, 0
	})
	sourceWell = func(s backendtest.AWSService) func(*faultRig) {
		return awsKnobs(s, func(k *backendtest.AWSKnobs) { *k = backendtest.AWSKnobs{} })
	}
	containerSay = func(change func(k *backendtest.AWSKnobs)) func(*faultRig) {
		return awsKnobs(backendtest.AWSContainer, change)
	}
)

func memberAgain(r *faultRig) {
	r.rds.Set(func(k *backendtest.Knobs) { k.IAMUsers = []string{r.d.name} })
}

// roleInProfile makes a role of the shared configuration the credentials, which
// STS refuses.
func roleInProfile(r *faultRig) {
	r.sharedConfig("[default]\nrole_arn = arn:aws:iam::123456789012:role/pooler\nsource_profile = base\n[profile base]\n" + keyOf(baseKey))
	r.aws.Set(backendtest.AWSSTS, func(k *backendtest.AWSKnobs) { k.Status, k.Code = 403, "AccessDenied" })
}

// sharedConfig makes a file the only source of credentials.
func (r *faultRig) sharedConfig(content string) {
	r.write("aws-config", content)
	r.env = slices.DeleteFunc(r.env, func(v string) bool { return strings.HasPrefix(v, "AWS_") })
	r.env = append(r.env, "AWS_CONFIG_FILE="+r.path("aws-config"), "AWS_SHARED_CREDENTIALS_FILE="+r.path("none"),
		"AWS_ENDPOINT_URL_STS="+r.aws.URL(), "AWS_EC2_METADATA_DISABLED=true")
}

// keyOf is a key in a profile.
func keyOf(k backendtest.AccessKey) string {
	s := "aws_access_key_id = " + k.ID + "\naws_secret_access_key = " + k.Secret + "\n"
	if k.SessionToken != "" {
		s += "aws_session_token = " + k.SessionToken + "\n"
	}
	return s
}

// processOutput is what a credential_process writes.
func processOutput(k backendtest.AccessKey) string {
	return fmt.Sprintf(`{"Version":1,"AccessKeyId":%q,"SecretAccessKey":%q,"SessionToken":%q}`, k.ID, k.Secret, k.SessionToken)
}

// partitioned has "audit" where nobody answers.
func partitioned(r *faultRig) {
	r.partition = backendtest.StartPartition(r.t)
	_, port, err := net.SplitHostPort(r.partition.Addr())
	if err != nil {
		r.t.Fatal(err)
	}
	audit := r.conf.databases["audit"]
	audit["iam_port"], audit["port"] = audit["port"], must(strconv.Atoi(port))(r.t)
}

// withoutTLS has both databases log in with a password and without TLS.
func withoutTLS(r *faultRig) {
	r.conf.set("server_tls_sslmode", "disable")
	s := r.conf.databases["audit"]
	delete(s, "server_auth")
	delete(s, "iam_host")
	s["password"] = serverPassword
}

// longSessionToken has the credentials of the environment have one.
func longSessionToken(r *faultRig) {
	key := accessKey
	key.SessionToken = strings.Repeat("session+token/", 300)
	r.rds.AddKey(key)
	r.secrets = append(r.secrets, key.SessionToken)
	r.env = append(r.env, "AWS_SESSION_TOKEN="+key.SessionToken)
}
