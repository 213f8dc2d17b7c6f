package auth

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/pgvalet/pgvalet/backend/backendtest"
)

// TestCredentialErrors breaks each source in each way there is, and looks at
// what an operator is told.
func TestCredentialErrors(t *testing.T) {
	// What a process prints beside something that is not JSON.
	const leak = "wJalrXUtnFEMIsecret"
	set := func(s backendtest.AWSService, change func(k *backendtest.AWSKnobs)) func(*testing.T, *fakeAWS) {
		return func(t *testing.T, f *fakeAWS) {
			token := "jwt"
			f.use(t, s, map[bool]string{true: f.home}[s == backendtest.AWSSTS], token)
			f.Set(s, change)
		}
	}
	process := func(script string) func(*testing.T, *fakeAWS) {
		return func(t *testing.T, f *fakeAWS) {
			f.config(t, "[default]\ncredential_process = "+f.file(t, "process.sh", "#!/bin/sh\n"+script+"\n")+"\n")
		}
	}
	for name, test := range map[string]struct {
		prepare func(t *testing.T, f *fakeAWS)
		key     CredentialKey
		cause   Cause
		want    string // in the text, beside the cause
	}{
		"nothing": {
			func(t *testing.T, f *fakeAWS) { f.config(t, "") },
			CredentialKey{},
			NoCredentials, "neither environment, web identity, profile nor container endpoint is set",
		},
		"ec2 has no role": {
			set(backendtest.AWSIMDS, func(k *backendtest.AWSKnobs) { k.Status = 404 }),
			CredentialKey{},
			NoCredentials, "404",
		},
		"ec2 is version 2 only, and hangs": {
			set(backendtest.AWSIMDS, func(k *backendtest.AWSKnobs) { k.Hang = true }),
			CredentialKey{},
			NoCredentials, "EC2 metadata service gave none",
		},
		"profile missing": {
			func(t *testing.T, f *fakeAWS) { f.config(t, ""); t.Setenv("AWS_PROFILE", "reporting") },
			CredentialKey{},
			ProfileMissing, `"reporting" is not in `,
		},
		"profile of a database missing": {
			func(t *testing.T, f *fakeAWS) { f.config(t, ""); staticKeys(t) },
			CredentialKey{Profile: "reporting"},
			ProfileMissing, `"reporting" is not in `,
		},
		"profile without credentials": {
			func(t *testing.T, f *fakeAWS) {
				f.use(t, backendtest.AWSContainer, "", "") // which are somebody else's
				f.config(t, "[profile half]\naws_access_key_id = AKIA\n")
			},
			CredentialKey{Profile: "half"},
			IncompleteCredentials, "partial credentials found for profile profile half",
		},
		"profile of no credentials at all": {
			func(t *testing.T, f *fakeAWS) {
				f.use(t, backendtest.AWSContainer, "", "") // which are somebody else's
				f.config(t, "[profile region]\nregion = us-east-1\n")
			},
			CredentialKey{Profile: "region"},
			IncompleteCredentials, `profile "region" has no usable credentials`,
		},
		"file unreadable": {
			func(t *testing.T, f *fakeAWS) { f.config(t, "[profile x\naws_secret_access_key "+leak+"\n") },
			CredentialKey{Profile: "x"},
			ProfileMissing, `"x" is not in`, // the SDK skips such lines
		},
		"half a key": {
			func(t *testing.T, f *fakeAWS) {
				f.use(t, backendtest.AWSContainer, "", "")
				t.Setenv("AWS_ACCESS_KEY_ID", longTermKey.ID)
			},
			CredentialKey{},
			IncompleteCredentials, "AWS_ACCESS_KEY_ID is set and AWS_SECRET_ACCESS_KEY is not",
		},
		"expired at the source": {
			set(backendtest.AWSContainer, func(k *backendtest.AWSKnobs) { k.Life = -time.Minute }),
			CredentialKey{},
			ExpiredCredentials, "they expired at ",
		},
		"container refuses": {
			set(backendtest.AWSContainer, func(k *backendtest.AWSKnobs) { k.Status, k.Code = 400, "AccessDeniedException" }),
			CredentialKey{},
			EndpointRefused, "the endpoint said AccessDeniedException: told to fail",
		},
		"container breaks": {
			set(backendtest.AWSContainer, func(k *backendtest.AWSKnobs) { k.Status = 500 }),
			CredentialKey{},
			EndpointRefused, "the endpoint said HTTP status 500: told to fail",
		},
		"container hangs": {
			set(backendtest.AWSContainer, func(k *backendtest.AWSKnobs) { k.Hang = true }),
			CredentialKey{},
			EndpointHung, "the container endpoint http://127.0.0.1:",
		},
		"container drops": {
			set(backendtest.AWSContainer, func(k *backendtest.AWSKnobs) { k.Drop = true }),
			CredentialKey{},
			EndpointUnreachable, "EOF",
		},
		"container unreachable": {
			func(t *testing.T, f *fakeAWS) {
				f.config(t, "")
				t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/")
			},
			CredentialKey{},
			EndpointUnreachable, "connection refused",
		},
		"another pod's token": {
			func(t *testing.T, f *fakeAWS) {
				f.use(t, backendtest.AWSContainer, "", "")
				t.Setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "of another pod")
			},
			CredentialKey{},
			EndpointRefused, "AccessDeniedException",
		},
		"role not trusted": {
			func(t *testing.T, f *fakeAWS) { f.config(t, ""); staticKeys(t) },
			CredentialKey{RoleARN: testRole + "-strict"},
			RoleNotAssumable, "aws STS said AccessDenied: User: arn:aws:iam::123456789012:user/jane",
		},
		"role without its external ID": {
			func(t *testing.T, f *fakeAWS) { f.config(t, ""); staticKeys(t) },
			CredentialKey{RoleARN: testRole + "-external"},
			RoleNotAssumable, "which assume " + testRole + "-external",
		},
		"role with an unknown key": {
			func(t *testing.T, f *fakeAWS) {
				f.config(t, "")
				t.Setenv("AWS_ACCESS_KEY_ID", "AKIAUNKNOWN")
				t.Setenv("AWS_SECRET_ACCESS_KEY", "s")
			},
			CredentialKey{RoleARN: testRole},
			InvalidKeys, "InvalidClientTokenId",
		},
		"role with the wrong secret": {
			func(t *testing.T, f *fakeAWS) {
				f.config(t, "")
				staticKeys(t)
				t.Setenv("AWS_SECRET_ACCESS_KEY", "wrong")
			},
			CredentialKey{RoleARN: testRole},
			InvalidKeys, "SignatureDoesNotMatch",
		},
		"sts finds the clock slow": {
			func(t *testing.T, f *fakeAWS) {
				f.config(t, "")
				staticKeys(t)
				f.Set(backendtest.AWSSTS, func(k *backendtest.AWSKnobs) { k.ClockOffset = 20 * time.Minute })
			},
			CredentialKey{RoleARN: testRole},
			ClockWrong, "SignatureDoesNotMatch: Signature expired: ",
		},
		"sts finds the clock fast": {
			func(t *testing.T, f *fakeAWS) {
				f.config(t, "")
				staticKeys(t)
				f.Set(backendtest.AWSSTS, func(k *backendtest.AWSKnobs) { k.ClockOffset = -20 * time.Minute })
			},
			CredentialKey{RoleARN: testRole},
			ClockWrong, "SignatureDoesNotMatch: Signature not yet current: ",
		},
		"sts finds the time skewed": {
			func(t *testing.T, f *fakeAWS) {
				f.config(t, "")
				staticKeys(t)
				f.Set(backendtest.AWSSTS, func(k *backendtest.AWSKnobs) { k.Status, k.Code = 403, "RequestTimeTooSkewed" })
			},
			CredentialKey{RoleARN: testRole},
			ClockWrong, "RequestTimeTooSkewed",
		},
		"role with expired credentials": {
			func(t *testing.T, f *fakeAWS) {
				f.use(t, backendtest.AWSContainer, "", "")
				f.Set(backendtest.AWSContainer, func(k *backendtest.AWSKnobs) { k.Life = -time.Minute })
			},
			CredentialKey{RoleARN: testRole},
			ExpiredCredentials, "ExpiredToken",
		},
		"sts hangs": {
			func(t *testing.T, f *fakeAWS) {
				f.config(t, "")
				staticKeys(t)
				f.Set(backendtest.AWSSTS, func(k *backendtest.AWSKnobs) { k.Hang = true })
			},
			CredentialKey{RoleARN: testRole},
			EndpointHung, "which assume " + testRole,
		},
		"sts partitioned": {
			func(t *testing.T, f *fakeAWS) {
				f.config(t, "")
				staticKeys(t)
				t.Setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1")
			},
			CredentialKey{RoleARN: testRole},
			EndpointUnreachable, "connection refused",
		},
		"web identity expired": {
			func(t *testing.T, f *fakeAWS) { f.use(t, backendtest.AWSSTS, f.home, "old-jwt") },
			CredentialKey{},
			WebIdentityExpired, "role " + testRole + "): aws STS said ExpiredTokenException",
		},
		"web identity of another issuer": {
			func(t *testing.T, f *fakeAWS) { f.use(t, backendtest.AWSSTS, f.home, "other-jwt") },
			CredentialKey{},
			WebIdentityExpired, "InvalidIdentityToken",
		},
		"web identity not trusted": {
			set(backendtest.AWSSTS, func(k *backendtest.AWSKnobs) { k.Status, k.Code = 403, "AccessDenied" }),
			CredentialKey{},
			WebIdentityExpired, "role " + testRole,
		},
		"sts throttles": {
			set(backendtest.AWSSTS, func(k *backendtest.AWSKnobs) { k.Status, k.Code = 400, "Throttling" }),
			CredentialKey{},
			EndpointThrottled, "aws STS said Throttling",
		},
		"sts is not active in the region": {
			set(backendtest.AWSSTS, func(k *backendtest.AWSKnobs) { k.Status, k.Code = 403, "RegionDisabledException" }),
			CredentialKey{},
			RegionDisabled, "aws STS said RegionDisabledException",
		},
		"role chained for too long": {
			func(t *testing.T, f *fakeAWS) {
				f.config(t, "")
				staticKeys(t)
				f.Set(backendtest.AWSSTS, func(k *backendtest.AWSKnobs) {
					k.Status, k.Code = 400, "ValidationError"
					k.Message = "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining"
				})
			},
			CredentialKey{RoleARN: testRole},
			RoleTooLong, "role chaining",
		},
		"web identity file missing": {
			func(t *testing.T, f *fakeAWS) {
				f.use(t, backendtest.AWSSTS, f.home, "jwt")
				t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/nonexistent/token")
			},
			CredentialKey{},
			WebIdentityMissing, "/nonexistent/token",
		},
		"process talks": {process("echo AKIA " + leak), CredentialKey{}, ProcessFailed, "its output is not usable credentials"},
		"process fails": {process("echo " + leak + "; exit 3"), CredentialKey{}, ProcessFailed, "exit status 3"},
		"process gives expired ones": {
			process(`echo '{"Version": 1, "AccessKeyId": "AKIA", "SecretAccessKey": "s", "Expiration": "2020-01-01T00:00:00Z"}'`),
			CredentialKey{},
			ExpiredCredentials, "they expired at 2020-01-01T00:00:00Z",
		},
		"process talks below a role": {
			process("echo AKIA " + leak), CredentialKey{RoleARN: testRole}, ProcessFailed, "its output is not usable credentials",
		},
		"sso session over": {
			func(t *testing.T, f *fakeAWS) { f.ssoSession(t, time.Now().Add(-time.Hour), false) },
			CredentialKey{},
			SSOExpired, "expired, or not present",
		},
		"no sso session": {
			func(t *testing.T, f *fakeAWS) { f.use(t, backendtest.AWSSSO, f.home, "") },
			CredentialKey{},
			SSOExpired, "the sso session of profile",
		},
		"sso session revoked": {
			func(t *testing.T, f *fakeAWS) {
				f.ssoSession(t, time.Now().Add(time.Hour), false)
				f.Set(backendtest.AWSSSO, func(k *backendtest.AWSKnobs) { k.Status, k.Code = 401, "UnauthorizedException" })
			},
			CredentialKey{},
			SSOExpired, "UnauthorizedException",
		},
		"sso role not given": {
			func(t *testing.T, f *fakeAWS) {
				f.ssoSession(t, time.Now().Add(time.Hour), false)
				f.Set(backendtest.AWSSSO, func(k *backendtest.AWSKnobs) { k.Status, k.Code = 403, "ForbiddenException" })
			},
			CredentialKey{},
			RoleNotAssumable, "ForbiddenException",
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := startAWS(t)
			test.prepare(t, f)
			t.Setenv("AWS_MAX_ATTEMPTS", "2") // each comes after a pause
			k := testKey
			k.Credentials = test.key
			_, err := defaultSource(t, nil).Token(t.Context(), k)
			got, ok := errors.AsType[*CredentialError](err)
			if !ok || got.Cause != test.cause || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), got.Next()) ||
				!strings.HasPrefix(err.Error(), "no iam token for app@"+testKey.Host+":5432 (us-east-1): "+test.cause.String()) {
				t.Fatalf("error %v\nwant %v: %s", err, test.cause, test.want)
			}
			if got.Source == "" || got.Profile != test.key.Profile || test.key.RoleARN != "" && got.RoleARN != test.key.RoleARN && test.cause != ProcessFailed {
				t.Errorf("source %q, profile %q, role %q", got.Source, got.Profile, got.RoleARN)
			}
			if len(err.Error()) > 1500 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
			for e := err; e != nil; e = errors.Unwrap(e) {
				if text := fmt.Sprintf("%v %+v %#v", e, e, e); strings.Contains(text, leak) || strings.Contains(text, longTermKey.Secret) {
					t.Errorf("the error tells a secret: %s", text)
				}
			}
		})
	}
}

// A source that gave credentials before and is silent now is not called missing.
func TestCredentialErrorOfKnownSource(t *testing.T) {
	f := startAWS(t)
	f.use(t, backendtest.AWSIMDS, "", "")
	f.Set(backendtest.AWSIMDS, func(k *backendtest.AWSKnobs) { k.Life = 4 * time.Minute })
	s := defaultSource(t, nil)
	s.mustToken(t, testKey)
	f.Set(backendtest.AWSIMDS, func(k *backendtest.AWSKnobs) { k.Hang = true })
	s.mu.Lock()
	c := s.chainFor(CredentialKey{})
	c.noRetrieval = time.Time{}
	s.mu.Unlock()
	other := testKey
	other.User = "batch"
	s.mustToken(t, other) // with the old ones
	s.mu.Lock()
	err := c.err
	s.mu.Unlock()
	if got, ok := errors.AsType[*CredentialError](err); !ok || got.Cause != EndpointHung {
		t.Errorf("error %v", err)
	}
}

// The session of "aws login" is over when the SDK finds no token in its cache, or
// cannot renew it.
func TestLoginSessionOver(t *testing.T) {
	l := &loadedChain{sources: []aws.CredentialSource{aws.CredentialSourceProfile, aws.CredentialSourceLogin}}
	err := errors.New("load login token: token file not found, please reauthenticate")
	if got, _ := causeOf(err, l, false); got != SSOExpired {
		t.Errorf("cause %v", got)
	}
}

// The path of the container endpoint of ECS is all that is needed to have the
// task's credentials.
func TestContainerPathIsSecret(t *testing.T) {
	const path = "/v2/credentials/5d1f2e3d-aaaa-bbbb-cccc-0123456789ab"
	t.Setenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", path)
	l := &loadedChain{sources: []aws.CredentialSource{aws.CredentialSourceHTTP}}
	l.describe(CredentialKey{})
	err := describe(&url.Error{Op: "Get", URL: "http://169.254.170.2" + path, Err: errors.New("connection refused")}, l, CredentialKey{}, false)
	if text := err.Error(); strings.Contains(text, path) || !strings.Contains(text, "http://169.254.170.2/…") || !strings.Contains(text, "connection refused") {
		t.Errorf("the error says %s", text)
	}
	t.Setenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "")
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://me:secret@127.0.0.1:8080/v1/credentials?key=secret")
	if got := containerURI(); got != "http://127.0.0.1:8080/v1/credentials" {
		t.Errorf("the endpoint is %s", got)
	}
}
