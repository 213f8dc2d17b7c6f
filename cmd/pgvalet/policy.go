package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/pgvalet/pgvalet/config"
	"github.com/pgvalet/pgvalet/pool"
)

var errPolicyUsage = errors.New("usage: pgvalet iam-policy [--resource-id [DATABASE=]ID]... [--account N] [--terraform] CONFIG")

var (
	resourceID = regexp.MustCompile(`^((db|cluster|prx)-[A-Z0-9a-z]+|[a-z0-9]+)$`) // the last form is DSQL's
	accountID  = regexp.MustCompile(`^[0-9]{12}$`)
)

// What stands in a policy for what nobody has said.
const (
	unknownResource = "RESOURCE-ID"
	unknownAccount  = "ACCOUNT-ID"
)

// grant is one permission that the configuration needs: who may connect as whom.
type grant struct {
	role    string // that must have it; "": the process's own identity
	action  string
	arn     string
	comment string
	assume  bool // it is for assuming role, by the process's own identity
}

// iamPolicy prints the least that IAM must allow for a configuration to work.
func iamPolicy(args []string, stdout, stderr io.Writer) error {
	ids := make(map[string]string) // by database; "" for all
	var account string
	var terraform bool
	fs := pflag.NewFlagSet("iam-policy", pflag.ContinueOnError)
	fs.Usage = func() {}
	fs.Func("resource-id", "", func(v string) error {
		name, id, named := strings.Cut(v, "=")
		if !named {
			name, id = "", v
		}
		if !resourceID.MatchString(id) {
			return fmt.Errorf("%q is no resource ID (db-…, cluster-…, prx-…)", id)
		}
		ids[name] = id
		return nil
	})
	fs.StringVar(&account, "account", unknownAccount, "")
	fs.BoolVar(&terraform, "terraform", false, "")
	if err := fs.Parse(args); err != nil {
		return fmt.Errorf("%w; %w", err, errPolicyUsage)
	}
	if fs.NArg() != 1 {
		return errPolicyUsage
	}
	if account != unknownAccount && !accountID.MatchString(account) {
		return fmt.Errorf("--account %s is not the number of an account, 12 digits", account)
	}
	g, err := load(fs.Arg(0))
	if err != nil {
		return err
	}
	for name := range ids {
		if name != "" && g.config.Databases[name] == nil {
			return fmt.Errorf("--resource-id: the configuration has no database %q", name)
		}
	}
	grants := grantsOf(g, ids, account)
	if len(grants) == 0 {
		return errors.New("no database of the configuration uses IAM")
	}
	write := writePolicyJSON
	if terraform {
		write = writePolicyTerraform
	}
	if err := write(stdout, grants); err != nil {
		return err
	}
	advise(stderr, g.config, grants)
	return nil
}

// grantsOf lists what g needs, without repetition, by role.
func grantsOf(g *generation, ids map[string]string, account string) []grant {
	var list []grant
	seen := make(map[string]bool)
	add := func(gr grant) {
		if key := gr.role + " " + gr.action + " " + gr.arn; !seen[key] {
			seen[key] = true
			list = append(list, gr)
		}
	}
	for _, db := range allDatabases(g.config) {
		name := db.Name
		if !db.ServerAuth.MakesTokens() {
			continue
		}
		acct := account
		if parts := strings.Split(db.IAMRoleARN, ":"); len(parts) > 4 {
			acct = parts[4] // a role is allowed to connect in its own account only
			add(grant{action: "sts:AssumeRole", arn: db.IAMRoleARN, assume: true, comment: "database " + name})
		}
		id := ids[name]
		if id == "" {
			id = ids[""]
		}
		partition := config.Partition(db.IAMRegion)
		users := []string{db.User}
		if db.User == "" {
			users = g.userlist.Names()
		}
		if db.ServerAuth == config.ServerAuthDSQL {
			if id == "" {
				id, _, _ = strings.Cut(db.IAMHost, ".") // the endpoint's name begins with it
			}
			for _, u := range users {
				add(grant{db.IAMRoleARN, pool.TokenKey(db, u).Action(), fmt.Sprintf("arn:%s:dsql:%s:%s:cluster/%s", partition, db.IAMRegion, acct, id), "database " + name, false})
			}
			continue
		}
		if id == "" {
			id = unknownResource
		}
		for _, u := range users {
			add(grant{db.IAMRoleARN, pool.TokenKey(db, u).Action(), fmt.Sprintf("arn:%s:rds-db:%s:%s:dbuser:%s/%s", partition, db.IAMRegion, acct, id, u), "database " + name, false})
		}
	}
	slices.SortStableFunc(list, func(a, b grant) int { return strings.Compare(a.role, b.role) })
	return list
}

// allDatabases returns the databases by name, and last the one that stands for
// all others.
func allDatabases(c *config.Config) []*config.Database {
	var list []*config.Database
	for _, name := range slices.Sorted(maps.Keys(c.Databases)) {
		list = append(list, c.Databases[name])
	}
	if c.AutoDB != nil {
		list = append(list, c.AutoDB)
	}
	return list
}

// statement is one of a policy.
type statement struct {
	Sid      string
	Effect   string
	Action   string
	Resource []string
}

// statements gathers the grants of one role by action.
func statements(grants []grant, role string) []statement {
	var list []statement
	for _, g := range grants {
		if g.role != role {
			continue
		}
		i := slices.IndexFunc(list, func(s statement) bool { return s.Action == g.action })
		if i < 0 {
			i = len(list)
			sid := map[string]string{
				"rds-db:connect": "PgvaletConnect", "sts:AssumeRole": "PgvaletAssumeRole",
				"dsql:DbConnect": "PgvaletDsqlConnect", "dsql:DbConnectAdmin": "PgvaletDsqlConnectAdmin",
			}[g.action]
			list = append(list, statement{Sid: sid, Effect: "Allow", Action: g.action})
		}
		list[i].Resource = append(list[i].Resource, g.arn)
	}
	return list
}

// rolesOf returns whose policies are needed, the process's own ("") first.
func rolesOf(grants []grant) []string {
	var roles []string
	for _, g := range grants {
		if !slices.Contains(roles, g.role) {
			roles = append(roles, g.role)
		}
	}
	return roles
}

// writePolicyJSON prints one policy document, or one for each role.
func writePolicyJSON(w io.Writer, grants []grant) error {
	type document struct {
		Version   string
		Statement []statement
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	roles := rolesOf(grants)
	if len(roles) == 1 {
		return e.Encode(document{"2012-10-17", statements(grants, roles[0])})
	}
	all := make(map[string]document)
	for _, r := range roles {
		name := r
		if r == "" {
			name = "pgvalet"
		}
		all[name] = document{"2012-10-17", statements(grants, r)}
	}
	return e.Encode(all)
}

// writePolicyTerraform prints data sources aws_iam_policy_document.
func writePolicyTerraform(w io.Writer, grants []grant) error {
	var b strings.Builder
	for _, role := range rolesOf(grants) {
		name := "pgvalet"
		if role != "" {
			name += "_" + strings.Map(func(r rune) rune {
				if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
					return r
				}
				return '_'
			}, role[strings.LastIndex(role, "/")+1:])
			fmt.Fprintf(&b, "# For the role %s\n", role)
		}
		fmt.Fprintf(&b, "data \"aws_iam_policy_document\" %q {\n", name)
		for _, s := range statements(grants, role) {
			fmt.Fprintf(&b, "  statement {\n    sid       = %q\n    actions   = [%q]\n    resources = [\n", s.Sid, s.Action)
			for _, r := range s.Resource {
				// $ begins a template in HCL; an account's user may have one in its name.
				fmt.Fprintf(&b, "      %s,\n", strings.ReplaceAll(fmt.Sprintf("%q", r), "${", "$${"))
			}
			b.WriteString("    ]\n  }\n")
		}
		b.WriteString("}\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// advise says on standard error what the policy does not: what to fill in.
func advise(w io.Writer, c *config.Config, grants []grant) {
	has := func(what string) bool {
		return slices.ContainsFunc(grants, func(g grant) bool { return strings.Contains(g.arn, what) })
	}
	if has(":" + unknownAccount + ":") {
		fmt.Fprintf(w, "replace %s by the database's account (--account): aws sts get-caller-identity --query Account\n", unknownAccount)
	}
	if has(":" + unknownResource + "/") {
		fmt.Fprintf(w, "replace %s by the resource ID (--resource-id, or --resource-id DATABASE=ID):\n", unknownResource)
		for _, db := range allDatabases(c) {
			if db.ServerAuth == config.ServerAuthIAM {
				fmt.Fprintf(w, "  %s: %s\n", db.Name, lookUp(db))
			}
		}
	}
	if has(":dbuser:") {
		fmt.Fprintln(w, "blue/green: resource IDs do not move at a switchover; allow those of both environments before it")
	}
	if slices.ContainsFunc(grants, func(g grant) bool { return g.assume }) {
		fmt.Fprintln(w, "roles: the trust policy of each role to assume must name the identity of pgvalet, and iam_external_id if that is set")
	}
}

// lookUp is the command that tells the resource ID of db.
func lookUp(db *config.Database) string {
	name, rest, _ := strings.Cut(db.IAMHost, ".")
	switch {
	case strings.HasPrefix(rest, "cluster-"):
		return fmt.Sprintf("aws rds describe-db-clusters --region %s --db-cluster-identifier %s --query 'DBClusters[0].DbClusterResourceId' --output text", db.IAMRegion, name)
	case strings.Contains("."+rest, ".proxy-"):
		return fmt.Sprintf("aws rds describe-db-proxies --region %s --query 'DBProxies[?Endpoint==`%s`].DBProxyArn' --output text   (the last part, prx-…)", db.IAMRegion, db.IAMHost)
	}
	return fmt.Sprintf("aws rds describe-db-instances --region %s --db-instance-identifier %s --query 'DBInstances[0].DbiResourceId' --output text", db.IAMRegion, name)
}
