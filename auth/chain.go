package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/processcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/logging"
)

const (
	// defaultHTTPTimeout bounds each request of the chains; the SDK makes up
	// to three.
	defaultHTTPTimeout = 2 * time.Second
	// roleDuration is what roles are assumed for, unless a profile says for how
	// long. Every role allows an hour, and a role assumed by another no more.
	roleDuration = time.Hour
	// defaultSessionName is how CloudTrail calls us.
	defaultSessionName = "pgvalet"
)

// loadedChain is a chain of the SDK with what can be said about it. It is
// immutable.
type loadedChain struct {
	provider aws.CredentialsProvider
	base     aws.CredentialsProvider // what a role is assumed with; nil: no role
	config   aws.Config              // of the same region and HTTP client
	source   string                  // where the credentials come from, in words
	sources  []aws.CredentialSource
	role     string // ARN of the role that they are of; "": none, or nobody says
	tokens   string // the file with the web identity token, if there is one
	fixed    bool   // a test's provider
}

// is reports whether one of these is among the sources of the credentials.
func (l *loadedChain) is(any ...aws.CredentialSource) bool {
	return slices.ContainsFunc(any, func(s aws.CredentialSource) bool { return slices.Contains(l.sources, s) })
}

// load makes the SDK's chain for k. region is for STS and only counts if
// nothing else names one. After an error the chain has no provider.
func (s *TokenSource) load(ctx context.Context, k CredentialKey, region string) (*loadedChain, error) {
	if s.fixed != nil {
		return &loadedChain{provider: s.fixed, source: "the given provider", fixed: true}, nil
	}
	// Without keep-alive: credentials are fetched hourly, and idle connections
	// would outlive Close.
	client := awshttp.NewBuildableClient().WithTimeout(s.httpTimeout).
		WithTransportOptions(func(t *http.Transport) { t.DisableKeepAlives = true })
	options := []func(*config.LoadOptions) error{
		config.WithDefaultRegion(region),
		config.WithHTTPClient(client),
		config.WithLogger(logging.LoggerFunc(func(_ logging.Classification, format string, v ...any) {
			s.log.Warn("aws sdk: " + fmt.Sprintf(format, v...))
		})),
		// The container provider does not use the client above. Without a
		// timeout an endpoint that accepts and never answers blocks it, and
		// everybody after, for as long as the socket lives.
		config.WithEndpointCredentialOptions(func(o *endpointcreds.Options) { o.HTTPClient = client }),
		config.WithProcessCredentialOptions(func(o *processcreds.Options) { o.Timeout = signingTimeout }),
		config.WithCredentialsCacheOptions(func(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = 0 }), // see chain
		config.WithAssumeRoleCredentialOptions(func(o *stscreds.AssumeRoleOptions) {
			if o.Duration == 0 {
				o.Duration = roleDuration
			}
			if o.RoleSessionName == "" {
				o.RoleSessionName = defaultSessionName
			}
		}),
		config.WithWebIdentityRoleCredentialOptions(func(o *stscreds.WebIdentityRoleOptions) {
			if o.RoleSessionName == "" {
				o.RoleSessionName = defaultSessionName
			}
		}),
	}
	if k.Profile != "" {
		options = append(options, config.WithSharedConfigProfile(k.Profile))
	}
	l := &loadedChain{source: "the configuration of the aws sdk"}
	var err error
	if l.config, err = config.LoadDefaultConfig(ctx, options...); err != nil {
		return l, err
	}
	l.describe(k)
	if err := l.halfConfigured(k); err != nil {
		return l, err
	}
	l.provider = l.config.Credentials
	if k.RoleARN != "" {
		l.base = l.provider
		l.provider = aws.NewCredentialsCache(stscreds.NewAssumeRoleProvider(sts.NewFromConfig(l.config), k.RoleARN,
			func(o *stscreds.AssumeRoleOptions) {
				o.Duration, o.RoleSessionName = roleDuration, defaultSessionName
				if k.SessionName != "" {
					o.RoleSessionName = k.SessionName
				}
				if k.ExternalID != "" {
					o.ExternalID = &k.ExternalID
				}
			}))
		l.source += ", which assume " + k.RoleARN
		l.role = k.RoleARN
		l.config.Credentials = l.provider
	}
	return l, nil
}

// describe says in words where the SDK has found credentials.
func (l *loadedChain) describe(k CredentialKey) {
	if c, ok := l.config.Credentials.(aws.CredentialProviderSource); ok {
		l.sources = c.ProviderSources()
	}
	profile := "default"
	for _, s := range l.config.ConfigSources {
		if c, ok := s.(config.SharedConfig); ok {
			profile, l.role, l.tokens = c.Profile, c.RoleARN, c.WebIdentityTokenFile
		}
	}
	switch {
	case l.is(aws.CredentialSourceEnvVars):
		l.source, l.role = "the environment (AWS_ACCESS_KEY_ID)", ""
	case l.is(aws.CredentialSourceEnvVarsSTSWebIDToken):
		l.role, l.tokens = os.Getenv("AWS_ROLE_ARN"), os.Getenv("AWS_WEB_IDENTITY_TOKEN_FILE")
		l.source = "the web identity token in " + l.tokens
	case l.is(aws.CredentialSourceProfileSTSWebIDToken):
		l.source = fmt.Sprintf("the web identity token of profile %q", profile)
	case l.is(aws.CredentialSourceProcess):
		l.source = fmt.Sprintf("credential_process of profile %q", profile)
	case l.is(aws.CredentialSourceSSO, aws.CredentialSourceSSOLegacy):
		l.source = fmt.Sprintf("the sso session of profile %q", profile)
	case l.is(aws.CredentialSourceLogin):
		l.source = fmt.Sprintf(`"aws login" of profile %q`, profile)
	case l.is(aws.CredentialSourceProfile):
		l.source = fmt.Sprintf("the keys of profile %q", profile)
	case l.is(aws.CredentialSourceIMDS):
		l.source = "the EC2 instance metadata service"
	case l.is(aws.CredentialSourceHTTP):
		l.source = "the container endpoint " + containerURI()
	default:
		l.source = "the aws sdk"
	}
}

// containerURI is the container endpoint without what is secret in it: whoever
// knows the path that ECS gives to a task can have the task's credentials, from
// any container of the same host. A whole URI may have a password.
func containerURI() string {
	if os.Getenv(ecsPath) != "" {
		return "http://169.254.170.2/…"
	}
	u, err := url.Parse(os.Getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI"))
	if err != nil {
		return "(an invalid URI)"
	}
	u.User, u.RawQuery = nil, ""
	return u.String()
}

const ecsPath = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"

// halfConfigured refuses what the SDK passes over in silence, to end up with
// somebody else's credentials: half of a key, a profile that holds none.
func (l *loadedChain) halfConfigured(k CredentialKey) error {
	fail := func(format string, args ...any) error {
		return &CredentialError{Cause: IncompleteCredentials, Err: fmt.Errorf(format, args...)}
	}
	if k.Profile != "" {
		if l.is(aws.CredentialSourceIMDS, aws.CredentialSourceHTTP) && !l.is(aws.CredentialSourceProfileNamedProvider) {
			return fail("the aws profile %q has no usable credentials, and those of %s are not its", k.Profile, l.source)
		}
		return nil
	}
	id, secret := firstEnv("AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY"), firstEnv("AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY")
	switch {
	case id != "" && secret == "":
		return fail("AWS_ACCESS_KEY_ID is set and AWS_SECRET_ACCESS_KEY is not")
	case id == "" && secret != "":
		return fail("AWS_SECRET_ACCESS_KEY is set and AWS_ACCESS_KEY_ID is not")
	}
	return nil
}

func firstEnv(names ...string) string {
	for _, n := range names {
		if v := os.Getenv(n); v != "" {
			return v
		}
	}
	return ""
}

// Identity is who AWS says the credentials are.
type Identity struct{ ARN, Account string }

// Identify asks STS for the identity behind k, for as long as ctx allows.
func (s *TokenSource) Identify(ctx context.Context, k CredentialKey, region string) (Identity, error) {
	c, err := s.credentials(k, region)
	if err != nil {
		return Identity{}, err
	}
	s.mu.Lock()
	l := s.chainFor(k).loaded
	s.mu.Unlock()
	if l == nil || l.fixed {
		return Identity{}, errors.New("there is no sts to ask")
	}
	cfg := l.config.Copy()
	cfg.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return c.Credentials, nil })
	out, err := sts.NewFromConfig(cfg).GetCallerIdentity(ctx, nil)
	if err != nil {
		return Identity{}, describe(err, l, k, true)
	}
	return Identity{ARN: strings.TrimSpace(aws.ToString(out.Arn)), Account: aws.ToString(out.Account)}, nil
}
