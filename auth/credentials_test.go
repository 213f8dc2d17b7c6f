package auth

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// defaultSource returns a source with the default chain and short timeouts.
func defaultSource(t *testing.T, log *zap.Logger) *TokenSource {
	t.Helper()
	s := NewTokenSource(TokenSourceConfig{Log: log})
	s.httpTimeout = 100 * time.Millisecond
	t.Cleanup(s.Close)
	return s
}

func TestDefaultChainEnvironment(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")
	t.Setenv("AWS_SESSION_TOKEN", "session/token==")
	core, logs := observer.New(zapcore.InfoLevel)
	got := defaultSource(t, zap.New(core)).mustToken(t, testKey)
	u, err := url.Parse("https://" + got.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	if u.Query().Get("X-Amz-Security-Token") != "session/token==" || !strings.HasPrefix(u.Query().Get("X-Amz-Credential"), "AKIAIOSFODNN7EXAMPLE/") {
		t.Errorf("token %s", got.Reveal())
	}
	if logs.Len() != 1 {
		t.Fatalf("%d log lines, want one about the credentials", logs.Len())
	}
	line, err := json.Marshal(logs.All()[0].ContextMap())
	if err != nil || !strings.Contains(string(line), "…MPLE") || strings.Contains(string(line), "AKIAIOS") || strings.Contains(string(line), "wJalr") {
		t.Errorf("logged %s, %v", line, err)
	}
}

// containerEndpoint serves credentials as ECS and EKS Pod Identity do.
func containerEndpoint(t *testing.T, handle http.HandlerFunc) {
	t.Helper()
	server := httptest.NewServer(handle)
	t.Cleanup(server.Close)
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", server.URL+"/v1/credentials")
	t.Setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "pod-token")
}

func writeCredentials(w http.ResponseWriter, id string, life time.Duration) {
	fmt.Fprintf(w, `{"AccessKeyId":%q,"SecretAccessKey":"topsecret","Token":"session","Expiration":%q}`,
		id, time.Now().Add(life).UTC().Format(time.RFC3339))
}

func TestDefaultChainContainer(t *testing.T) {
	var requests atomic.Int32
	containerEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		if r.URL.Path != "/v1/credentials" || r.Header.Get("Authorization") != "pod-token" {
			t.Errorf("request for %s with %q", r.URL, r.Header.Get("Authorization"))
		}
		writeCredentials(w, "ASIACONTAINER", 6*time.Minute)
	})
	s := defaultSource(t, nil)
	got := s.mustToken(t, testKey)
	if !strings.Contains(got.Reveal(), "X-Amz-Credential=ASIACONTAINER%2F") || !strings.Contains(got.Reveal(), "X-Amz-Security-Token=session&") {
		t.Errorf("token %s", got.Reveal())
	}
	// The SDK by itself would say that these expire in one minute.
	if left := time.Until(got.Expires()); left < 5*time.Minute || left > 6*time.Minute {
		t.Errorf("the token lives %v, want the 6 minutes of its credentials", left)
	}
	other := testKey
	other.User = "batch"
	s.mustToken(t, other)
	if requests.Load() != 1 {
		t.Errorf("%d requests for two tokens", requests.Load())
	}
	s.Invalidate(testKey, got)
	s.mustToken(t, testKey)
	if requests.Load() != 2 {
		t.Errorf("%d requests after an invalidation, want 2", requests.Load())
	}
}

// An endpoint that renews nothing in the last minutes is bridged with what is
// left of the old credentials.
func TestDefaultChainContainerFailsNearTheEnd(t *testing.T) {
	var requests atomic.Int32
	containerEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1) == 1 {
			writeCredentials(w, "ASIAFIRST", 3*time.Minute)
			return
		}
		http.Error(w, "agent is restarting", http.StatusBadRequest)
	})
	core, logs := observer.New(zapcore.WarnLevel)
	s := NewTokenSource(TokenSourceConfig{Log: zap.New(core)})
	defer s.Close()
	s.mustToken(t, testKey)
	s.mu.Lock()
	s.chainFor(CredentialKey{}).noRetrieval = time.Time{} // as if the pause were over
	s.mu.Unlock()
	other := testKey
	other.User = "batch"
	if got := s.mustToken(t, other); !strings.Contains(got.Reveal(), "ASIAFIRST") {
		t.Errorf("token %s", got.Reveal())
	}
	if requests.Load() < 2 || logs.FilterMessageSnippet("not renewed").Len() != 1 {
		t.Errorf("%d requests, %d warnings", requests.Load(), logs.Len())
	}
}

// The trap of the SDK: an endpoint that accepts and never answers.
func TestDefaultChainContainerHangs(t *testing.T) {
	var healthy atomic.Bool
	containerEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
		if !healthy.Load() {
			<-r.Context().Done() // the client gives up
			return
		}
		writeCredentials(w, "ASIACONTAINER", time.Hour)
	})
	var elapsed atomic.Int64 // to get over the pause after an error
	s := NewTokenSource(TokenSourceConfig{Now: func() time.Time { return time.Now().Add(time.Duration(elapsed.Load())) }})
	s.httpTimeout = 100 * time.Millisecond
	defer s.Close()
	begin := time.Now()
	if _, err := s.Token(t.Context(), testKey); err == nil {
		t.Fatal("a token without credentials")
	}
	if took := time.Since(begin); took > signingTimeout {
		t.Errorf("took %v", took)
	}
	healthy.Store(true)
	elapsed.Store(int64(errorPause))
	s.mustToken(t, testKey)
}
