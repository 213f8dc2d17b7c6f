package main

import (
	"bytes"
	"strings"
	"testing"
)

// policyConfig is a configuration with databases of every kind, and two that
// need the same permission.
func policyConfig(t *testing.T) *pooler {
	t.Helper()
	p := newPooler(t)
	p.users = map[string]string{"app": "x", "batch": "x"}
	p.conf.databases = map[string]section{
		"orders": {"host": "orders.cluster-c0abcdefghij.us-east-1.rds.amazonaws.com", "user": "orders", "server_auth": "iam"},
		"again":  {"host": "orders.cluster-c0abcdefghij.us-east-1.rds.amazonaws.com", "user": "orders", "server_auth": "iam"},
		"open":   {"host": "one.c0abcdefghij.rds.cn-north-1.amazonaws.com.cn", "server_auth": "iam"},
		"tenant": {
			"host": "t.c0abcdefghij.us-gov-west-1.rds.amazonaws.com", "user": "app", "server_auth": "iam",
			"iam_role_arn": "arn:aws-us-gov:iam::999999999999:role/path/tenant-7", "iam_external_id": "x7",
		},
		"serverless": {"host": "abcdefghijklmnopqrst012345.dsql.eu-west-1.on.aws", "user": "admin", "server_auth": "dsql"},
		"password":   {"host": "127.0.0.1", "user": "app", "password": "x"},
	}
	p.writeConf()
	return p
}

func policy(t *testing.T, p *pooler, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	code = run(append(append([]string{"iam-policy"}, args...), p.path("pgvalet.toml")), &out, &err)
	return code, out.String(), err.String()
}

func TestPolicyJSON(t *testing.T) {
	p := policyConfig(t)
	code, out, stderr := policy(t, p)
	const want = `{
  "arn:aws-us-gov:iam::999999999999:role/path/tenant-7": {
    "Version": "2012-10-17",
    "Statement": [
      {
        "Sid": "PgvaletConnect",
        "Effect": "Allow",
        "Action": "rds-db:connect",
        "Resource": [
          "arn:aws-us-gov:rds-db:us-gov-west-1:999999999999:dbuser:RESOURCE-ID/app"
        ]
      }
    ]
  },
  "pgvalet": {
    "Version": "2012-10-17",
    "Statement": [
      {
        "Sid": "PgvaletConnect",
        "Effect": "Allow",
        "Action": "rds-db:connect",
        "Resource": [
          "arn:aws:rds-db:us-east-1:ACCOUNT-ID:dbuser:RESOURCE-ID/orders",
          "arn:aws-cn:rds-db:cn-north-1:ACCOUNT-ID:dbuser:RESOURCE-ID/app",
          "arn:aws-cn:rds-db:cn-north-1:ACCOUNT-ID:dbuser:RESOURCE-ID/batch"
        ]
      },
      {
        "Sid": "PgvaletDsqlConnectAdmin",
        "Effect": "Allow",
        "Action": "dsql:DbConnectAdmin",
        "Resource": [
          "arn:aws:dsql:eu-west-1:ACCOUNT-ID:cluster/abcdefghijklmnopqrst012345"
        ]
      },
      {
        "Sid": "PgvaletAssumeRole",
        "Effect": "Allow",
        "Action": "sts:AssumeRole",
        "Resource": [
          "arn:aws-us-gov:iam::999999999999:role/path/tenant-7"
        ]
      }
    ]
  }
}
`
	if code != 0 || out != want {
		t.Errorf("exit code %d, got\n%s\nwant\n%s", code, out, want)
	}
	for _, want := range []string{
		"--account", "orders: aws rds describe-db-clusters --region us-east-1 --db-cluster-identifier orders ",
		"open: aws rds describe-db-instances --region cn-north-1 --db-instance-identifier one ", "blue/green: ", "trust policy",
	} {
		if !strings.Contains(stderr, want) {
			t.Errorf("no %q in\n%s", want, stderr)
		}
	}
}

func TestPolicyTerraform(t *testing.T) {
	p := policyConfig(t)
	delete(p.conf.databases, "tenant")
	delete(p.conf.databases, "serverless")
	p.writeConf()
	code, out, stderr := policy(t, p, "--terraform", "--account", "123456789012", "--resource-id", "db-INSTANCE", "--resource-id=orders=cluster-ABC", "--resource-id", "again=cluster-ABC")
	const want = `data "aws_iam_policy_document" "pgvalet" {
  statement {
    sid       = "PgvaletConnect"
    actions   = ["rds-db:connect"]
    resources = [
      "arn:aws:rds-db:us-east-1:123456789012:dbuser:cluster-ABC/orders",
      "arn:aws-cn:rds-db:cn-north-1:123456789012:dbuser:db-INSTANCE/app",
      "arn:aws-cn:rds-db:cn-north-1:123456789012:dbuser:db-INSTANCE/batch",
    ]
  }
}
`
	if code != 0 || out != want {
		t.Errorf("exit code %d, got\n%s\nwant\n%s", code, out, want)
	}
	if strings.Contains(stderr, "replace") {
		t.Errorf("something is to be replaced in a complete policy:\n%s", stderr)
	}
}

func TestPolicyRefuses(t *testing.T) {
	p := policyConfig(t)
	for want, args := range map[string][]string{
		"is not the number of an account":    {"--account", "12"},
		"is no resource ID":                  {"--resource-id", "arn:aws:rds"},
		"has no database":                    {"--resource-id", "nosuch=db-ABC"},
		"usage: pgvalet iam-policy":          {"--nonsense"},
		"no database of the configuration u": nil,
	} {
		if args == nil {
			p.conf.databases = map[string]section{"password": {"host": "127.0.0.1", "user": "app", "password": "x"}}
			p.writeConf()
		}
		if code, _, stderr := policy(t, p, args...); code != 1 || !strings.Contains(stderr, want) {
			t.Errorf("%q: exit code %d, %s, want %s", args, code, stderr, want)
		}
		if args == nil {
			p = policyConfig(t)
		}
	}
}
