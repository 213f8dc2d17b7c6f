package auth

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/processcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/ssocreds"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Cause is why there are no AWS credentials to sign with.
type Cause uint8

// The causes.
const (
	NoCredentials         Cause = iota // no source of credentials is configured, and EC2 gives none
	ProfileMissing                     // the profile is in none of the shared files
	ConfigUnreadable                   // a shared file, or what it says, cannot be used
	IncompleteCredentials              // empty, or half of a key
	ExpiredCredentials                 // they had expired when they came, or STS says so
	ClockWrong                         // AWS says that the time of a request is not right
	InvalidKeys                        // STS does not know the access key, or its secret is wrong
	RoleNotAssumable                   // STS or SSO does not allow the role
	WebIdentityExpired                 // STS does not take the web identity token, or not for the role
	WebIdentityMissing                 // the file of the web identity token cannot be read
	EndpointRefused                    // whoever gives the credentials answered with an error
	EndpointHung                       // it has not answered in time
	EndpointUnreachable                // it cannot be connected to
	ProcessFailed                      // credential_process
	SSOExpired                         // the session of "aws sso login" or "aws login"
	EndpointThrottled                  // whoever gives the credentials was asked too often
	RoleTooLong                        // the role cannot be assumed for as long as the profile asks for
	RegionDisabled                     // STS is not active in the region for this account
	OtherCause
)

var causes = [...]struct{ name, next string }{
	NoCredentials: {"no aws credentials found", "set AWS_ACCESS_KEY_ID or AWS_PROFILE, or give the task, pod or instance a role; " +
		"an EKS pod older than its Pod Identity association has to be restarted, and a pod needs an IMDS hop limit of 2 to reach EC2's"},
	ProfileMissing:        {"aws profile not found", "look at iam_profile or AWS_PROFILE, and at AWS_CONFIG_FILE and AWS_SHARED_CREDENTIALS_FILE of this process and its home directory"},
	ConfigUnreadable:      {"aws configuration unusable", "look at the shared configuration files for a syntax error or a profile that refers to nothing"},
	IncompleteCredentials: {"aws credentials incomplete", "set both the access key ID and the secret access key (and the session token, if they are temporary)"},
	ExpiredCredentials:    {"aws credentials expired", "renew them at their source, and look at this machine's clock"},
	ClockWrong:            {"this machine's clock is wrong", "set it (chrony, ntp, Amazon Time Sync): aws takes no request, and RDS no token, whose time is off by more than some minutes"},
	InvalidKeys:           {"aws access key not valid", "has the key been deleted or deactivated, and is its secret right?"},
	RoleNotAssumable:      {"role cannot be assumed", "does the role's trust policy name this identity (and external ID), and may the identity call sts:AssumeRole on it? A permissions boundary or service control policy can deny it"},
	WebIdentityExpired:    {"web identity token not accepted", "is the token file renewed (kubelet does it), and does the role's trust policy name its issuer, audience and subject?"},
	WebIdentityMissing:    {"web identity token unreadable", "does AWS_WEB_IDENTITY_TOKEN_FILE exist, and may this process read it? A pod needs its service account's annotation when it is created"},
	EndpointRefused:       {"credential endpoint refused", "look at the role of the task, pod or instance; the pooler's log has the answer, the endpoint's own may say more"},
	EndpointHung:          {"credential endpoint does not answer", "look at the agent or proxy behind it, and for a firewall or missing VPC endpoint on the way"},
	EndpointUnreachable:   {"credential endpoint cannot be reached", "look at the route, the DNS, the VPC endpoint (STS), and whether the agent runs"},
	ProcessFailed:         {"credential_process failed", "run it by hand as this process's user; its output is not repeated here, it may hold keys"},
	SSOExpired:            {"aws login session over", `"aws sso login" begins a new one, or "aws login" where the profile has a login_session`},
	EndpointThrottled:     {"credential endpoint throttles", "too many ask it for credentials in a moment; it is asked again by itself"},
	RoleTooLong:           {"role cannot be assumed for so long", "look at duration_seconds of the profile: a role that is assumed by another role is for an hour at most, any other for its MaxSessionDuration"},
	RegionDisabled:        {"sts not active in the region", "activate STS for it in the account settings of IAM, or set AWS_REGION to one where it is"},
	OtherCause:            {"no aws credentials", "the reason is the aws sdk's"},
}

// String returns the cause in a few words, without anything of this case.
func (c Cause) String() string { return causes[c].name }

// CredentialError says why there are no credentials for a token. Its texts hold
// no secret.
type CredentialError struct {
	Cause   Cause
	Source  string // where the credentials were to come from, in words
	Profile string // iam_profile; "": none
	RoleARN string // "": none, or not known
	Err     error  // what AWS or the system said
}

// Next is what an operator can look at.
func (e *CredentialError) Next() string { return causes[e.Cause].next }

// Error returns all of it on one line, for the log.
func (e *CredentialError) Error() string {
	var b strings.Builder
	b.WriteString(causes[e.Cause].name)
	if e.Source != "" {
		b.WriteString(" (from " + e.Source)
		if e.RoleARN != "" && !strings.Contains(e.Source, e.RoleARN) {
			b.WriteString(", role " + e.RoleARN)
		}
		b.WriteString(")")
	}
	if e.Err != nil {
		b.WriteString(": " + strings.Join(strings.Fields(e.Err.Error()), " "))
	}
	return b.String() + "; " + e.Next()
}

// Unwrap returns Err.
func (e *CredentialError) Unwrap() error { return e.Err }

// describe says what an error of the SDK means to an operator. Texts that may
// carry secrets are neither kept nor wrapped. had says that the same source
// has given credentials before.
func describe(err error, l *loadedChain, k CredentialKey, had bool) *CredentialError {
	e, ok := errors.AsType[*CredentialError](err)
	if !ok {
		e = new(CredentialError)
		e.Cause, e.Err = causeOf(err, l, had)
		e.Err = withoutPath(e.Err)
	}
	e.Source, e.Profile, e.RoleARN = l.source, k.Profile, l.role
	return e
}

// withoutPath returns an error without the path of containerURI.
func withoutPath(err error) error {
	path := os.Getenv(ecsPath)
	if path == "" || path == "/" || !strings.Contains(err.Error(), path) {
		return err
	}
	return errors.New(strings.ReplaceAll(err.Error(), path, "/…"))
}

func causeOf(err error, l *loadedChain, had bool) (Cause, error) {
	var (
		process   *processcreds.ProviderError
		exit      *exec.ExitError
		login     *ssocreds.InvalidTokenError
		profile   config.SharedConfigProfileNotExistError
		file      config.SharedConfigLoadError
		role      config.SharedConfigAssumeRoleError
		operation *smithy.OperationError
		refusal   smithy.APIError
		send      *smithyhttp.RequestSendError
		timeout   net.Error
		canceled  *aws.RequestCanceledError
	)
	service, name := "", ""
	if errors.As(err, &operation) {
		service, name = operation.Service(), operation.Operation()
	}
	sso := l.is(aws.CredentialSourceSSO, aws.CredentialSourceSSOLegacy, aws.CredentialSourceLogin)
	switch {
	case errors.As(err, &process):
		// Its text contains all that the process wrote: the keys, that is.
		if errors.As(err, &exit) {
			return ProcessFailed, errors.New(exit.ProcessState.String())
		}
		return ProcessFailed, errors.New("its output is not usable credentials")
	case errors.As(err, &file):
		// A syntax error quotes the line.
		return ConfigUnreadable, fmt.Errorf("the file %s cannot be read", file.Filename)
	case errors.As(err, &role):
		return ConfigUnreadable, err
	case errors.As(err, &profile):
		return ProfileMissing, fmt.Errorf("%q is not in %q", profile.Profile, profile.Filename)
	case strings.Contains(err.Error(), "partial credentials"): // of no type
		return IncompleteCredentials, err
	case errors.As(err, &login):
		return SSOExpired, err
	case service == "ec2imds" && !had:
		return NoCredentials, fmt.Errorf("neither environment, web identity, profile nor container endpoint is set, and the EC2 metadata service gave none: %w", err)
	case errors.As(err, &refusal):
		return refused(service, name, refusal), said(service, err, refusal)
	case errors.As(err, &canceled), errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return EndpointHung, err
	case errors.As(err, &send):
		return EndpointUnreachable, err
	case sso:
		return SSOExpired, err // there is no token in the cache, or it cannot be renewed
	case l.is(aws.CredentialSourceEnvVarsSTSWebIDToken, aws.CredentialSourceProfileSTSWebIDToken) && service == "":
		return WebIdentityMissing, err
	}
	return OtherCause, err
}

// refused is the cause behind an error code of AWS.
func refused(service, operation string, e smithy.APIError) Cause {
	// The code may be that of a wrong key. The SDK corrects its clock by the Date
	// of such an answer, so this is for those on whose way something changes that.
	if strings.HasPrefix(e.ErrorMessage(), "Signature expired") || strings.HasPrefix(e.ErrorMessage(), "Signature not yet current") {
		return ClockWrong
	}
	webIdentity := operation == "AssumeRoleWithWebIdentity"
	switch e.ErrorCode() {
	case "AccessDenied", "AccessDeniedException":
		if webIdentity { // its trust policy decides, and nobody may or may not call sts:AssumeRole
			return WebIdentityExpired
		}
		if service == "STS" && operation != "GetCallerIdentity" {
			return RoleNotAssumable
		}
		if service == "SSO OIDC" {
			return SSOExpired
		}
	case "ForbiddenException":
		if service == "SSO" {
			return RoleNotAssumable
		}
	case "UnauthorizedException", "InvalidGrantException":
		return SSOExpired
	case "ExpiredToken", "ExpiredTokenException":
		switch {
		case webIdentity:
			return WebIdentityExpired
		case service == "SSO OIDC":
			return SSOExpired
		}
		return ExpiredCredentials
	case "InvalidIdentityToken", "IDPRejectedClaim", "IDPCommunicationError":
		return WebIdentityExpired
	case "RequestTimeTooSkewed", "RequestExpired":
		return ClockWrong
	case "Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled", "RequestThrottledException", "RequestLimitExceeded",
		"TooManyRequestsException", "SlowDown":
		return EndpointThrottled
	case "RegionDisabledException":
		return RegionDisabled
	case "ValidationError":
		if strings.Contains(e.ErrorMessage(), "DurationSeconds") {
			return RoleTooLong
		}
	case "InvalidClientTokenId", "SignatureDoesNotMatch", "UnrecognizedClientException", "AuthFailure":
		return InvalidKeys
	}
	return EndpointRefused
}

// said is what AWS wrote, cut to what fits into a log line.
func said(service string, err error, e smithy.APIError) error {
	by := "the endpoint"
	if service != "" {
		by = "aws " + service
	}
	code := e.ErrorCode()
	var status interface{ HTTPStatusCode() int }
	if code == "" && errors.As(err, &status) {
		code = fmt.Sprintf("HTTP status %d", status.HTTPStatusCode())
	}
	return fmt.Errorf("%s said %s: %.200s", by, code, strings.TrimSpace(e.ErrorMessage()))
}
