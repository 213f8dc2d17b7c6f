package auth

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/processcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/ssocreds"
	"github.com/aws/smithy-go"
	"go.uber.org/zap"
)

const (
	// defaultHTTPTimeout bounds each request of the default chain; the SDK
	// makes up to three.
	defaultHTTPTimeout = 2 * time.Second
	// renewBefore is when credentials are asked for anew, while the old ones
	// still serve if there are no new ones.
	renewBefore = 5 * time.Minute
)

// generationCredentials are credentials and the generation they belong to.
type generationCredentials struct {
	aws.Credentials
	generation uint64
}

// credentials returns credentials to sign with. Those who ask at the same time
// share one retrieval.
func (s *TokenSource) credentials(region string) (generationCredentials, error) {
	c, err, _ := s.retrievals.Do("", func() (any, error) { return s.retrieve(region) })
	if err != nil {
		return generationCredentials{}, err
	}
	return c.(generationCredentials), nil
}

// retrieve is the cache of credentials. The SDK has one too, but that one
// forgets its credentials by the expiry window early whether or not there are
// new ones, or without a window hands them out until their last second, or
// (EC2) gives them a later expiry of its own. So the window is ours, and the
// SDK's cache is invalidated before it is asked.
func (s *TokenSource) retrieve(region string) (generationCredentials, error) {
	s.mu.Lock()
	provider := s.provider
	last := generationCredentials{s.last, s.generation}
	now, noRetrieval := s.now(), s.noRetrieval
	s.mu.Unlock()

	wanted := now.Add(renewBefore)
	if now.Before(noRetrieval) {
		wanted = now
	}
	if checkCredentials(last.Credentials, wanted) == nil {
		return last, nil
	}
	ctx, cancel := context.WithTimeout(s.ctx, signingTimeout)
	defer cancel()
	provider, creds, err := s.ask(ctx, provider, region)
	now = s.now()
	if err == nil {
		err = checkCredentials(creds, now)
	}

	s.mu.Lock()
	s.provider = provider
	if s.generation == last.generation {
		s.noRetrieval = now.Add(refreshPause)
		if err == nil {
			s.last = creds
		}
	}
	s.mu.Unlock()
	switch {
	case err == nil:
		if creds.AccessKeyID != last.AccessKeyID {
			s.log.Info("aws credentials", zap.String("source", creds.Source),
				zap.String("access key", "…"+creds.AccessKeyID[max(0, len(creds.AccessKeyID)-4):]),
				zap.String("expires", expiry(creds)))
		}
		return generationCredentials{creds, last.generation}, nil
	case checkCredentials(last.Credentials, now) == nil:
		s.log.Warn("aws credentials not renewed; the last ones still serve", zap.Error(err), zap.String("until", expiry(last.Credentials)))
		return last, nil
	}
	return generationCredentials{}, err
}

// ask gets credentials from provider, which is the default chain if nil, and
// returns the provider for the next time.
func (s *TokenSource) ask(ctx context.Context, provider aws.CredentialsProvider, region string) (aws.CredentialsProvider, aws.Credentials, error) {
	if provider == nil {
		chain, err := loadChain(ctx, region, s.httpTimeout)
		if err != nil {
			return nil, aws.Credentials{}, describe(err)
		}
		provider = chain
	}
	if cache, ok := provider.(interface{ Invalidate() }); ok {
		cache.Invalidate()
	}
	creds, err := provider.Retrieve(ctx)
	switch {
	case err != nil && ctx.Err() != nil:
		return provider, creds, fmt.Errorf("wait for aws credentials: %w", ctx.Err())
	case err != nil:
		return provider, creds, describe(err)
	}
	return provider, creds, nil
}

// loadChain loads the SDK's default chain: environment, shared files, container
// endpoint, EC2. region is for STS and only counts if nothing else names one.
func loadChain(ctx context.Context, region string, timeout time.Duration) (aws.CredentialsProvider, error) {
	// Without keep-alive: credentials are fetched hourly, and idle connections
	// would outlive Close.
	client := awshttp.NewBuildableClient().WithTimeout(timeout).
		WithTransportOptions(func(t *http.Transport) { t.DisableKeepAlives = true })
	c, err := config.LoadDefaultConfig(
		ctx,
		config.WithDefaultRegion(region),
		config.WithHTTPClient(client),
		// The container provider does not use the client above. Without a
		// timeout an endpoint that accepts and never answers blocks it, and
		// everybody after, for as long as the socket lives.
		config.WithEndpointCredentialOptions(func(o *endpointcreds.Options) { o.HTTPClient = client }),
		config.WithProcessCredentialOptions(func(o *processcreds.Options) { o.Timeout = signingTimeout }),
		config.WithCredentialsCacheOptions(func(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = 0 }), // see retrieve
	)
	if err != nil {
		return nil, err
	}
	return c.Credentials, nil
}

// checkCredentials refuses what the SDK would sign with all the same.
func checkCredentials(c aws.Credentials, at time.Time) error {
	switch {
	case !c.HasKeys():
		return fmt.Errorf("the aws credentials from %q are empty", c.Source)
	case c.CanExpire && !c.Expires.After(at):
		return fmt.Errorf("the aws credentials from %q expired at %v", c.Source, c.Expires.UTC().Format(time.RFC3339))
	}
	return nil
}

// describe says what an error of the SDK means to an operator. Texts that may
// carry secrets are neither kept nor wrapped.
func describe(err error) error {
	var (
		process   *processcreds.ProviderError
		exit      *exec.ExitError
		login     *ssocreds.InvalidTokenError
		profile   config.SharedConfigProfileNotExistError
		file      config.SharedConfigLoadError
		operation *smithy.OperationError
		refusal   smithy.APIError
		network   *net.OpError
	)
	switch {
	case errors.As(err, &process):
		// Its text contains all that the process wrote: the keys, that is.
		if errors.As(err, &exit) {
			return fmt.Errorf("credential_process failed: %v", exit.ProcessState)
		}
		return errors.New("credential_process failed: its output is not usable credentials")
	case errors.As(err, &file):
		// A syntax error quotes the line.
		return fmt.Errorf("the shared aws configuration file %s cannot be read", file.Filename)
	case errors.As(err, &profile):
		return fmt.Errorf("the aws profile %q is not in %q", profile.Profile, profile.Filename)
	case errors.As(err, &login):
		return fmt.Errorf(`the sso session is over, "aws sso login" begins a new one: %w`, err)
	case errors.As(err, &operation) && operation.Service() == "ec2imds":
		return fmt.Errorf("no aws credentials found: neither environment, web identity, profile nor container endpoint is set "+
			"(an EKS pod older than its Pod Identity association has to be restarted), and the EC2 metadata service gave none: %w", err)
	case errors.As(err, &refusal):
		by := "the container's credential endpoint"
		if operation != nil {
			by = "aws " + operation.Service()
		}
		return fmt.Errorf("%s refused credentials: %s: %.200s%s", by, refusal.ErrorCode(), refusal.ErrorMessage(), hint(refusal.ErrorCode()))
	case errors.As(err, &network):
		return fmt.Errorf("the source of aws credentials cannot be reached: %w", err)
	}
	return fmt.Errorf("no aws credentials: %w", err)
}

// hint tells what to look at for the error codes of STS.
func hint(code string) string {
	switch code {
	case "AccessDenied":
		return " (does the role's trust policy allow sts:AssumeRole to this identity?)"
	case "ExpiredToken", "ExpiredTokenException", "InvalidIdentityToken":
		return " (is the web identity token file current?)"
	}
	return ""
}

// expiry is when c expires, for log lines.
func expiry(c aws.Credentials) string {
	if !c.CanExpire {
		return "never"
	}
	return c.Expires.UTC().Format(time.RFC3339)
}
