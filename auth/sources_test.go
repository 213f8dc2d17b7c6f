package auth

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgvalet/pgvalet/backend/backendtest"
)

const testRole = "arn:aws:iam::123456789012:role/pooler"

var longTermKey = backendtest.AccessKey{ID: "AKIALONGTERM00000042", Secret: "long/term+secret", Principal: "arn:aws:iam::123456789012:user/jane"}

// fakeAWS is a stand-in for AWS, and the verifier of the tokens that its
// credentials sign.
type fakeAWS struct {
	*backendtest.AWS
	keys map[string]backendtest.AccessKey // that were given out; read when nothing is asked for any more
	home string
}

func startAWS(t *testing.T) *fakeAWS {
	t.Helper()
	f := &fakeAWS{keys: map[string]backendtest.AccessKey{longTermKey.ID: longTermKey}, home: t.TempDir()}
	var err error
	f.AWS, err = backendtest.StartAWS(backendtest.AWSOptions{
		Keys: []backendtest.AccessKey{longTermKey},
		Roles: []backendtest.AWSRole{
			{ARN: testRole},
			{ARN: testRole + "-external", ExternalID: "tenant-7"},
			{ARN: testRole + "-strict", Trusts: []string{"arn:aws:iam::123456789012:user/john"}},
		},
		WebIdentities: map[string]time.Time{"jwt": time.Now().Add(time.Hour), "old-jwt": time.Now().Add(-time.Hour)},
		Issued:        func(k backendtest.AccessKey) { f.keys[k.ID] = k },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// use sets the environment for credentials from s.
func (f *fakeAWS) use(t *testing.T, s backendtest.AWSService, dir, token string) {
	t.Helper()
	env, err := f.Env(s, dir, token)
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		t.Setenv(name, value)
	}
}

// config writes the shared configuration file.
func (f *fakeAWS) config(t *testing.T, content string) {
	t.Helper()
	t.Setenv("AWS_CONFIG_FILE", f.file(t, ".aws/config", content))
	t.Setenv("AWS_ENDPOINT_URL_STS", f.URL())
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
}

func (f *fakeAWS) file(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(f.home, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func (f *fakeAWS) ssoSession(t *testing.T, expires time.Time, refresh bool) {
	t.Helper()
	f.use(t, backendtest.AWSSSO, f.home, "")
	name := sha1.Sum([]byte("corp"))
	f.file(t, ".aws/sso/cache/"+hex.EncodeToString(name[:])+".json", f.SSOToken(expires, refresh))
}

func staticKeys(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", longTermKey.ID)
	t.Setenv("AWS_SECRET_ACCESS_KEY", longTermKey.Secret)
}

const staticProfile = "aws_access_key_id = AKIALONGTERM00000042\naws_secret_access_key = long/term+secret\n"

// TestCredentialSources gets a token from each source of credentials there is,
// and has it verified as RDS does.
func TestCredentialSources(t *testing.T) {
	for name, test := range map[string]struct {
		prepare   func(t *testing.T, f *fakeAWS)
		key       CredentialKey
		source    string // in words
		principal string // who the token is of
	}{
		"environment": {
			func(t *testing.T, f *fakeAWS) {
				f.config(t, "")
				staticKeys(t)
			},
			CredentialKey{},
			"the environment", ":user/jane",
		},
		"container": {
			func(t *testing.T, f *fakeAWS) { f.use(t, backendtest.AWSContainer, "", "") },
			CredentialKey{},
			"the container endpoint http://127.0.0.1:", "assumed-role/task/",
		},
		"pod identity": {
			func(t *testing.T, f *fakeAWS) { f.use(t, backendtest.AWSContainer, f.home, "") },
			CredentialKey{},
			"the container endpoint http://127.0.0.1:", "assumed-role/task/",
		},
		"ec2": {
			func(t *testing.T, f *fakeAWS) { f.use(t, backendtest.AWSIMDS, "", "") },
			CredentialKey{},
			"the EC2 instance metadata service", "assumed-role/instance-role/i-",
		},
		"web identity": {
			func(t *testing.T, f *fakeAWS) { f.use(t, backendtest.AWSSTS, f.home, "jwt") },
			CredentialKey{},
			"the web identity token in ", "assumed-role/pooler/pgvalet",
		},
		"sso": {
			func(t *testing.T, f *fakeAWS) { f.ssoSession(t, time.Now().Add(time.Hour), false) },
			CredentialKey{},
			`the sso session of profile "default"`, "AWSReservedSSO_task",
		},
		"sso, renewed": {
			func(t *testing.T, f *fakeAWS) { f.ssoSession(t, time.Now().Add(-time.Hour), true) },
			CredentialKey{},
			`the sso session of profile "default"`, "AWSReservedSSO_task",
		},
		"process": {
			func(t *testing.T, f *fakeAWS) {
				script := f.file(t, "process.sh", "#!/bin/sh\necho '{\"Version\": 1, \"AccessKeyId\": \"AKIALONGTERM00000042\", \"SecretAccessKey\": \"long/term+secret\"}'\n")
				f.config(t, "[default]\ncredential_process = "+script+"\n")
			},
			CredentialKey{},
			`credential_process of profile "default"`, ":user/jane",
		},
		"profile": {
			func(t *testing.T, f *fakeAWS) {
				f.config(t, "[profile base]\n"+staticProfile)
				t.Setenv("AWS_ACCESS_KEY_ID", "AKIAOTHER") // a profile that is asked for comes first
				t.Setenv("AWS_SECRET_ACCESS_KEY", "other")
			},
			CredentialKey{Profile: "base"},
			`the keys of profile "base"`, ":user/jane",
		},
		"role of a profile": {
			func(t *testing.T, f *fakeAWS) {
				f.config(t, "[profile base]\n"+staticProfile+"[profile pooler]\nsource_profile = base\nrole_arn = "+testRole+"\n")
			},
			CredentialKey{Profile: "pooler"},
			`the keys of profile "pooler"`, "assumed-role/pooler/pgvalet",
		},
		"role": {
			func(t *testing.T, f *fakeAWS) { f.use(t, backendtest.AWSContainer, "", "") },
			CredentialKey{RoleARN: testRole},
			", which assume " + testRole, "assumed-role/pooler/pgvalet",
		},
		"role with an external ID and a name": {
			func(t *testing.T, f *fakeAWS) {
				f.config(t, "")
				staticKeys(t)
			},
			CredentialKey{RoleARN: testRole + "-external", ExternalID: "tenant-7", SessionName: "orders"},
			"the environment (AWS_ACCESS_KEY_ID), which assume ", "assumed-role/pooler-external/orders",
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := startAWS(t)
			test.prepare(t, f)
			s := defaultSource(t, nil)
			k := testKey
			k.Credentials = test.key
			token := s.mustToken(t, k)
			var who string
			check := backendtest.TokenCheck{
				Hosts: []string{fmt.Sprintf("%s:%d", testKey.Host, testKey.Port)}, Region: testKey.Region, User: testKey.User, Now: time.Now(),
				Key: func(id string) (backendtest.AccessKey, bool) { k, ok := f.keys[id]; who = k.Principal; return k, ok },
			}
			if err := check.Verify(token.Reveal()); err != nil {
				t.Fatalf("RDS would not take the token: %v", err)
			}
			if !strings.Contains(who, test.principal) {
				t.Errorf("the token is of %q, want %q", who, test.principal)
			}
			got, err := s.Identify(t.Context(), test.key, testKey.Region)
			if err != nil || got.ARN != who || got.Account != "123456789012" {
				t.Errorf("identity %+v, %v, want %s", got, err, who)
			}
			if i := s.Credentials(); len(i) != 1 || !strings.Contains(i[0].Source, test.source) || i[0].Key != test.key {
				t.Errorf("%+v, want the source %s", i, test.source)
			}
		})
	}
}

// Each profile and role has credentials of its own, however many keys share them.
func TestCredentialsPerKey(t *testing.T) {
	f := startAWS(t)
	f.config(t, "[profile base]\n"+staticProfile)
	staticKeys(t)
	s := defaultSource(t, nil)
	seen := make(map[string]int)
	for _, c := range []CredentialKey{{}, {Profile: "base"}, {RoleARN: testRole}, {RoleARN: testRole + "-external", ExternalID: "tenant-7"}} {
		for _, user := range []string{"app", "batch"} {
			k := testKey
			k.User, k.Credentials = user, c
			id := signedBy(t, s.mustToken(t, k))
			seen[id]++
		}
	}
	if len(seen) != 3 || seen[longTermKey.ID] != 4 { // two of them are the long-term key
		t.Errorf("signed by %v", seen)
	}
	if n := f.Requests(backendtest.AWSSTS); n != 2 {
		t.Errorf("STS was asked %d times for two roles", n)
	}
	// A refused token of one role leaves the others alone.
	k := testKey
	k.Credentials = CredentialKey{RoleARN: testRole}
	s.Invalidate(k, s.mustToken(t, k))
	s.mustToken(t, k)
	k.Credentials = CredentialKey{RoleARN: testRole + "-external", ExternalID: "tenant-7"}
	s.mustToken(t, k)
	if n := f.Requests(backendtest.AWSSTS); n != 3 {
		t.Errorf("STS was asked %d times, want once more", n)
	}
}

// signedBy is the access key ID in a token.
func signedBy(t *testing.T, token Token) string {
	t.Helper()
	_, id, _ := strings.Cut(token.Reveal(), "X-Amz-Credential=")
	id, _, ok := strings.Cut(id, "%2F")
	if !ok {
		t.Fatalf("token %s", token.Reveal())
	}
	return id
}
