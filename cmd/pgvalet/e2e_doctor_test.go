package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/pgvalet/pgvalet/backend/backendtest"
)

// patient returns a configuration with one database behind the stand-ins for RDS
// and for AWS, whose container endpoint gives the credentials.
func patient(t *testing.T) (*pooler, *backendtest.RDS, *backendtest.AWS) {
	t.Helper()
	p, _, rds := overIAM(t)
	aws := startAWS(t, rds)
	for _, kv := range must(aws.Env(backendtest.AWSContainer, "", ""))(t) {
		name, value, _ := strings.Cut(kv, "=")
		t.Setenv(name, value)
	}
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_CONFIG_FILE", p.path("none"))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", p.path("none"))
	p.conf.set("server_connect_timeout", "5s")
	return p, rds, aws
}

// startAWS starts a stand-in for AWS whose credentials rds knows.
func startAWS(t testing.TB, rds *backendtest.RDS) *backendtest.AWS {
	t.Helper()
	aws := must(backendtest.StartAWS(backendtest.AWSOptions{Issued: rds.AddKey}))(t)
	t.Cleanup(func() {
		if err := aws.Close(); err != nil {
			t.Error(err)
		}
	})
	return aws
}

// examine runs check --connect.
func examine(t *testing.T, p *pooler, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	p.writeConf()
	var out, err bytes.Buffer
	code = run(append(append([]string{"check", "--connect"}, args...), p.path("pgvalet.toml")), &out, &err)
	if text := out.String() + err.String(); strings.Contains(text, "X-Amz-Signature") || strings.Contains(text, serverPassword) || strings.Contains(text, "session/") {
		t.Errorf("a secret is told: %s", text)
	}
	return code, out.String(), err.String()
}

func TestDoctorHealthy(t *testing.T) {
	p, rds, _ := patient(t)
	code, out, _ := examine(t, p, "--database", "shop")
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	rest := out
	for _, want := range []string{
		"✓ configuration file ", "shop: user ", "✓ credentials ", "the container endpoint http://127.0.0.1:", "access key …", "expires in ",
		"✓ identity ", "arn:aws:sts::123456789012:assumed-role/task/session", "✓ token ", "for host and port " + rds.Endpoint(), "expires in 15m0s",
		"✓ dns ", "127.0.0.1:", "✓ tcp ", "✓ tls ", "TLS 1.3, certificate for " + backendtest.DefaultRDSHost, "signed by ",
		"✓ request ", "the server asks for a cleartext password", "✓ login ", "? rds_iam ", "✓ role ", "writer, PostgreSQL ", "✓ query ", "median of 5",
	} {
		_, after, found := strings.Cut(rest, want)
		if !found {
			t.Fatalf("no %q, or not in its place, in\n%s", want, out)
		}
		rest = after
	}

	code, out, _ = examine(t, p, "--json")
	var report struct {
		OK        bool
		Databases []diagnosis
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || code != 0 || !report.OK || len(report.Databases) != 1 ||
		!report.Databases[0].OK || len(report.Databases[0].Steps) < 10 || report.Databases[0].Steps[0].Step != "credentials" {
		t.Errorf("exit code %d, %v, %s", code, err, out)
	}
}

func TestDoctorFindsTheCause(t *testing.T) {
	for name, test := range map[string]struct {
		harm func(p *pooler, rds *backendtest.RDS, aws *backendtest.AWS)
		step string
		want []string
	}{
		"no credentials": {
			func(p *pooler, rds *backendtest.RDS, aws *backendtest.AWS) {
				aws.Set(backendtest.AWSContainer, func(k *backendtest.AWSKnobs) { k.Status, k.Code = 400, "AccessDeniedException" })
			},
			"credentials",
			[]string{"credential endpoint refused", "AccessDeniedException", "next: look at the role of the task"},
		},
		"a role": {
			func(p *pooler, rds *backendtest.RDS, aws *backendtest.AWS) {
				p.conf.databases["shop"]["iam_role_arn"] = "arn:aws:iam::123456789012:role/unknown"
			},
			"credentials",
			[]string{"role cannot be assumed", "role/unknown", "next: does the role's trust policy"},
		},
		"dns": {
			func(p *pooler, rds *backendtest.RDS, aws *backendtest.AWS) {
				p.conf.databases["shop"]["host"] = "nosuchhost.invalid"
			},
			"dns",
			[]string{"server DNS lookup failed", "nosuchhost.invalid", "next: Check the name in host"},
		},
		"nobody there": {
			func(p *pooler, rds *backendtest.RDS, aws *backendtest.AWS) { rds.Close() },
			"tcp",
			[]string{"connect failed", "connection refused", "next: Check host and port"},
		},
		"another authority": {
			func(p *pooler, rds *backendtest.RDS, aws *backendtest.AWS) {
				p.write("server-ca.crt", string(serverCA.PEM()))
			},
			"tls",
			[]string{"server certificate verify failed", "unknown authority", "next: "},
		},
		"token refused": {
			func(p *pooler, rds *backendtest.RDS, aws *backendtest.AWS) {
				rds.Set(func(k *backendtest.Knobs) { k.RejectAll = true })
			},
			"login",
			[]string{"PAM authentication failed", "IAM token refused, signed for", "rds-db:connect", "next: Check that an IAM policy allows rds-db:connect"},
		},
		"not in rds_iam": {
			func(p *pooler, rds *backendtest.RDS, aws *backendtest.AWS) {
				rds.Set(func(k *backendtest.Knobs) { k.IAMUsers = nil })
			},
			"login",
			[]string{"✓ request", "the server asks for SCRAM", "rds_iam", "next: GRANT rds_iam"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p, rds, aws := patient(t)
			test.harm(p, rds, aws)
			code, out, stderr := examine(t, p)
			if code != int(exitNotConnected) || !strings.Contains(out, "1 of 1 databases cannot be used") || stderr != "" {
				t.Errorf("exit code %d, %s", code, stderr)
			}
			for _, want := range append(test.want, "✗ "+test.step+" ") {
				if !strings.Contains(out, want) {
					t.Errorf("no %q in\n%s", want, out)
				}
			}
			if strings.Contains(out, "✓ query") {
				t.Errorf("it went on after the failure:\n%s", out)
			}
		})
	}
}

// What is not needed for a login does not make a database unusable.
func TestDoctorWithoutSTS(t *testing.T) {
	p, _, aws := patient(t)
	aws.Set(backendtest.AWSSTS, func(k *backendtest.AWSKnobs) { k.Hang = true })
	code, out, _ := examine(t, p)
	if code != 0 || !strings.Contains(out, "? identity ") || !strings.Contains(out, "✓ query") {
		t.Errorf("exit code %d\n%s", code, out)
	}
}
