package backendtest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// AWSService is one of the endpoints that AWS stands in for.
type AWSService string

// The endpoints.
const (
	AWSContainer AWSService = "container" // ECS task role, EKS Pod Identity
	AWSIMDS      AWSService = "imds"      // EC2 instance metadata, version 2
	AWSSTS       AWSService = "sts"
	AWSSSO       AWSService = "sso" // the portal, and the OIDC service that renews sessions
	AWSRDSAPI    AWSService = "rds" // the control plane
)

// AWSKnobs change how one endpoint behaves while it runs.
type AWSKnobs struct {
	Hang    bool          // accept, and never answer
	Drop    bool          // close the connection without an answer
	Status  int           // answer with this HTTP status; 0: as all is well
	Code    string        // the error code with it
	Message string        // the text with it; "": any
	Latency time.Duration // before the answer
	Life    time.Duration // of the credentials that are given; 0: an hour
	Keep    bool          // give the same credentials until they expire, instead of new ones each time

	// ClockOffset is how far the clock that signatures are judged by is ahead, for
	// STS. Its answers look as if they came from a cache: by the Date of others the
	// SDK would correct itself.
	ClockOffset time.Duration
}

// AWSRole is a role that STS knows.
type AWSRole struct {
	ARN        string
	ExternalID string   // that its trust policy asks for; "": none
	Trusts     []string // principals, ARNs; nil: everybody
}

// AWSOptions says what StartAWS stands in for.
type AWSOptions struct {
	Keys          []AccessKey          // long-term keys that STS knows
	Roles         []AWSRole            // for AssumeRole and AssumeRoleWithWebIdentity
	WebIdentities map[string]time.Time // tokens of web identities, and when they expire
	Issued        func(AccessKey)      // told of temporary keys before they are given out; may be nil
	Clusters      map[string]string    // resource IDs by Aurora cluster, for DescribeDBClusters
	Instances     map[string]string    // resource IDs by instance
}

// AWS stands in for the endpoints that AWS credentials come from, on one HTTP
// listener: the container endpoint, EC2's metadata service (version 2), STS,
// SSO, and of RDS's control plane the look-up of resource IDs. It verifies what
// the real ones verify: tokens, signatures, expiry, trust.
type AWS struct {
	o      AWSOptions
	server *http.Server
	url    string
	closed chan struct{} // by Close: hanging requests end
	done   chan struct{}

	mu       sync.Mutex // guards the rest
	knobs    map[AWSService]AWSKnobs
	requests map[AWSService]int
	keys     map[string]AccessKey  // by ID, all that were ever known
	given    map[string]*AccessKey // the last ones, by service and principal, for Keep
	sessions map[string]time.Time  // IMDS tokens
}

// The secrets that the endpoints ask for, and who they say one is.
const (
	awsContainerToken = "pod-token"
	awsSSOToken       = "sso-access-token"
	awsAccount        = "123456789012"
	awsTaskRole       = "arn:aws:sts::" + awsAccount + ":assumed-role/task/session"
	awsInstanceRole   = "instance-role"
)

// StartAWS starts a stand-in, which runs until Close.
func StartAWS(o AWSOptions) (*AWS, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	a := &AWS{
		o:        o,
		url:      "http://" + ln.Addr().String(),
		closed:   make(chan struct{}),
		done:     make(chan struct{}),
		knobs:    make(map[AWSService]AWSKnobs),
		requests: make(map[AWSService]int),
		keys:     make(map[string]AccessKey),
		given:    make(map[string]*AccessKey),
		sessions: make(map[string]time.Time),
	}
	for _, k := range o.Keys {
		a.keys[k.ID] = k
	}
	a.server = &http.Server{Handler: http.HandlerFunc(a.serve), ReadHeaderTimeout: time.Minute}
	go func() {
		defer close(a.done)
		_ = a.server.Serve(ln) // until Close
	}()
	return a, nil
}

// Close stops the stand-in and ends what hangs in it.
func (a *AWS) Close() error {
	close(a.closed)
	err := a.server.Close()
	<-a.done
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// URL is where all the endpoints are.
func (a *AWS) URL() string { return a.url }

// Set changes the knobs of one endpoint.
func (a *AWS) Set(s AWSService, change func(k *AWSKnobs)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	k := a.knobs[s]
	change(&k)
	a.knobs[s] = k
}

// Requests returns how often an endpoint was asked.
func (a *AWS) Requests(s AWSService) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.requests[s]
}

// Env returns what the environment of a process says, KEY=VALUE, that has its
// credentials from s. dir is for the files that go with it; "" is none, and
// then the container's token is in the environment (ECS) rather than in a file
// (EKS Pod Identity). AWSSTS is a web identity (IRSA), with token and the first
// of the roles. AWSSSO makes dir the home directory.
func (a *AWS) Env(s AWSService, dir, token string) ([]string, error) {
	env := []string{
		"AWS_ENDPOINT_URL_STS=" + a.url,
		"AWS_ENDPOINT_URL_RDS=" + a.url,
		"AWS_EC2_METADATA_DISABLED=" + fmt.Sprint(s != AWSIMDS),
	}
	write := func(name, content string) (string, error) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return "", err
		}
		return path, os.WriteFile(path, []byte(content), 0o600)
	}
	switch s {
	case AWSContainer:
		env = append(env, "AWS_CONTAINER_CREDENTIALS_FULL_URI="+a.url+"/v1/credentials")
		if dir == "" {
			return append(env, "AWS_CONTAINER_AUTHORIZATION_TOKEN="+awsContainerToken), nil
		}
		path, err := write("eks-pod-identity-token", awsContainerToken)
		return append(env, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE="+path), err
	case AWSIMDS:
		return append(env, "AWS_EC2_METADATA_SERVICE_ENDPOINT="+a.url), nil
	case AWSSTS:
		path, err := write("web-identity-token", token)
		return append(env, "AWS_WEB_IDENTITY_TOKEN_FILE="+path, "AWS_ROLE_ARN="+a.o.Roles[0].ARN), err
	case AWSSSO:
		path, err := write(".aws/config", "[default]\nsso_session = corp\nsso_account_id = "+awsAccount+"\nsso_role_name = task\nregion = us-east-1\n"+
			"[sso-session corp]\nsso_region = us-east-1\nsso_start_url = https://corp.awsapps.com/start\nsso_registration_scopes = sso:account:access\n")
		return append(env, "HOME="+dir, "AWS_CONFIG_FILE="+path, "AWS_ENDPOINT_URL_SSO="+a.url, "AWS_ENDPOINT_URL_SSO_OIDC="+a.url), err
	}
	return nil, fmt.Errorf("no process has its credentials from %s", s)
}

// SSOToken is the content of the SDK's cache of SSO sessions, which lives in
// ~/.aws/sso/cache under the hex SHA-1 of the session's name, "corp".
// Without refresh the session cannot be renewed.
func (a *AWS) SSOToken(expires time.Time, refresh bool) string {
	s := fmt.Sprintf(`{"accessToken":%q,"expiresAt":%q`, awsSSOToken, expires.UTC().Format(time.RFC3339))
	if refresh {
		s += `,"refreshToken":"refresh","clientId":"client","clientSecret":"shared"`
	}
	return s + "}"
}

func (a *AWS) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil {
		return
	}
	r = r.WithContext(context.WithValue(r.Context(), bodyKey{}, string(body)))
	r.Body = io.NopCloser(bytes.NewReader(body))
	service, answer := a.route(r)
	a.mu.Lock()
	k := a.knobs[service]
	a.requests[service]++
	a.mu.Unlock()
	if !a.sleep(r, k.Latency) || k.Hang && !a.sleep(r, time.Hour) {
		return
	}
	switch {
	case k.Drop:
		panic(http.ErrAbortHandler)
	case k.Status != 0:
		a.fail(w, service, k.Status, k.Code, cmp.Or(k.Message, "told to fail"))
	default:
		answer(w, r)
	}
}

// sleep waits for d, and reports whether there is still somebody to answer.
func (a *AWS) sleep(r *http.Request, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
	case <-a.closed:
	}
	return false
}

func (a *AWS) route(r *http.Request) (AWSService, http.HandlerFunc) {
	switch {
	case r.URL.Path == "/v1/credentials":
		return AWSContainer, a.container
	case strings.HasPrefix(r.URL.Path, "/latest/"):
		return AWSIMDS, a.imds
	case r.URL.Path == "/federation/credentials" || r.URL.Path == "/token":
		return AWSSSO, a.sso
	case strings.HasPrefix(r.FormValue("Action"), "DescribeDB"):
		return AWSRDSAPI, a.rdsAPI
	}
	return AWSSTS, a.sts
}

// issue returns temporary credentials of a principal, from service.
func (a *AWS) issue(service AWSService, principal string) AccessKey {
	a.mu.Lock()
	defer a.mu.Unlock()
	k := a.knobs[service]
	life := k.Life
	if life == 0 {
		life = time.Hour
	}
	now := time.Now()
	which := string(service) + principal
	if last := a.given[which]; k.Keep && last != nil && now.Before(last.Expires) {
		return *last
	}
	key := AccessKey{
		ID: "ASIA" + strings.ToUpper(randomHex(8)), Secret: randomHex(20), SessionToken: "session/" + randomHex(100) + "==",
		// What is written down is in whole seconds.
		Expires:   now.Add(life).Truncate(time.Second),
		Principal: principal,
	}
	a.given[which] = &key
	a.keys[key.ID] = key
	if a.o.Issued != nil {
		a.o.Issued(key)
	}
	return key
}

func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return hex.EncodeToString(b)
}
