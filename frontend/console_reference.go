package frontend

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

const consoleReferenceStart = `# The console

<!-- Written from the table of commands in the package frontend: go test ./frontend -run TestConsoleReference -update -->

The console is a database of its own, ` + "`pgbouncer` (or `pgvalet`)" + `, for the users in ` + "`admin_users` and `stats_users`" + `:

    psql -h 127.0.0.1 -p 6432 -U admin pgbouncer

On the unix socket the user ` + "`pgbouncer`" + ` is an admin without a password, if the client runs as the same system user as pgvalet.
With auth_type any, everybody may look. In an HBA file the console is the database ` + "`pgbouncer`" + `.

Its commands, tables, texts and the SQLSTATE of its errors (08P01) are PgBouncer's. Other than there, every driver can use it: it
speaks the extended protocol, takes several commands at once, separated by semicolons, and any startup parameter, and answers
an empty query.

` + "`SHOW VERSION` answers `PgBouncer X (pgvalet Y)`, as does the first line of `pgvalet --version`: X is the version of" + `
PgBouncer that tools may take this console for, Y is pgvalet's own. For the same reason the parameter ` + "`server_version` is `X/bouncer`" + `.

Letter case does not matter, except in names of databases. A name with anything but letters, digits and underscores stands in
double quotes. ` + "`SELECT pools` is the same as `SHOW pools`" + `.

## Commands

| Command | For | Meaning |
|---|---|---|
`

// WriteConsoleReference writes the reference page docs/console.md.
func WriteConsoleReference(w io.Writer) error {
	b := bufio.NewWriter(w) // remembers the first error for Flush
	b.WriteString(consoleReferenceStart)
	commands := consoleCommands()
	var fake []string
	for _, c := range commands {
		if c.fake {
			fake = append(fake, "`"+c.columns[0].name+"`")
			continue
		}
		who := "all"
		if c.admin {
			who = "admin_users"
		}
		name := c.name
		if c.args != "" {
			name += " " + strings.ReplaceAll(c.args, "|", `\|`)
		}
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", name, who, c.help)
	}
	fmt.Fprintf(b, "\nFor drivers that ask, `SHOW` also knows %s and %s.\n", strings.Join(fake[:len(fake)-1], ", "), fake[len(fake)-1])
	b.WriteString("\n## Columns\n\nWhat pgvalet does not have shows as in a PgBouncer that does not use it. Times of day are UTC.\n")
	for _, c := range commands {
		if c.fake || c.columns == nil {
			continue
		}
		fmt.Fprintf(b, "\n### %s\n\n| Column | Type |\n|---|---|\n", c.name)
		for _, column := range c.columns {
			fmt.Fprintf(b, "| `%s` | %s |\n", column.name, column.typ)
		}
	}
	return b.Flush()
}
