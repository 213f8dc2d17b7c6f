package config

import (
	"bufio"
	"fmt"
	"io"
)

const referenceStart = `# Configuration

<!-- Written from the tables in the package config: go test ./config -update -->

pgvalet reads PgBouncer's ` + "`pgbouncer.ini`" + `, with the meaning and the defaults that it has for PgBouncer (` + "[below](#pgbouncers-ini)" + `), and a
form of its own: one TOML file, whose name ends in .toml, with the sections ` + "`[pgvalet]`, `[databases.NAME]`, `[users.NAME]` and `[peers.ID]`" + `. The keys are
PgBouncer's, letter for letter, and some more. A complete example is [pgvalet.toml](pgvalet.toml).

- Unknown keys, wrong types, values out of range and contradictions are errors. All are reported at once, with their lines,
  and a reload with errors changes nothing.
- Durations are numbers of seconds, fractions included, or strings such as ` + "`\"90s\"` or `\"15m\"`" + `.
- Booleans are ` + "`true` and `false`, or `1` and `0`" + `.
- Lists are arrays of strings, or one comma-separated string.
- Permissions are octal, ` + "`\"0770\"` or `0o770`" + `.
- Words such as ` + "`transaction`" + ` may have any letter case.
- Relative paths start from the directory of the file.
- A user's entry holds before the database's, and that before the global setting.
- RELOAD and SIGHUP apply the file again. A setting marked "needs a restart" keeps its old value until then; everything in
  ` + "`[databases]`, `[users]` and `[peers]`" + ` is applied.

## Defaults that differ from PgBouncer's

| Setting | pgvalet | PgBouncer |
|---|---|---|
`

const referenceDerived = "| `client_tls_sslmode` | `require` as soon as a database uses IAM, else `prefer` with a certificate | `disable` |\n" +
	"| `server_tls_sslmode` | `verify-full` as soon as a database uses IAM | `prefer` |\n"

const referenceINI = `
## PgBouncer's .ini

A file whose name does not end in .toml is read as PgBouncer reads it: the same sections, keys, quotes, numbers and
` + "`%include`" + `, PgBouncer's defaults, and relative paths that start from the working directory. What differs:

- All mistakes are told at once, and a reload with one changes nothing. A reload brings the default back for every setting
  that is not in the file any more.
- pgvalet's own settings may be in the file too: with ` + "`server_auth=iam`" + ` in a connection string and
  ` + "`server_tls_sslmode = verify-full`" + ` the database's password is not needed any more.
- Refused are numbers out of range, such as a negative ` + "`max_client_conn`" + `, an entry without a name, the database name
  ` + "`pgvalet`" + `, and NUL bytes.
- ` + "`pgvalet check`" + ` tells what is accepted and has no effect, or a surprising one: a setting that means nothing here, text
  behind a number in a connection string, a second ` + "`[pgbouncer]`" + `, a password without a user.

` + "`pgvalet convert [-o FILE] pgbouncer.ini`" + ` writes a TOML file that means the same, passwords included.
`

// WriteReference writes the reference page docs/config.md.
func WriteReference(w io.Writer) error {
	b := bufio.NewWriter(w) // remembers the first error for Flush
	b.WriteString(referenceStart)
	var s Settings
	reset(s.table())
	for _, s := range s.table() {
		if s.pgbouncer != "" {
			fmt.Fprintf(b, "| `%s` | `%s` | `%s` |\n", s.name, s.get(), s.pgbouncer)
		}
	}
	b.WriteString(referenceDerived)

	b.WriteString(referenceINI)
	b.WriteString("\n## Section [pgvalet]\n")
	for _, g := range s.groups() {
		fmt.Fprintf(b, "\n### %s\n", g.title)
		for _, s := range g.settings {
			reload := "RELOAD: yes"
			if s.restart {
				reload = "RELOAD: no, needs a restart"
			}
			fmt.Fprintf(b, "\n#### %s\n\nDefault: %s · %s · %s\n\n%s\n", s.name, code(s.get()), s.unit, reload, s.doc)
		}
	}
	b.WriteString("\n## Section [databases.NAME]\n\nNAME is what clients ask for. The names `pgbouncer` and `pgvalet` are the console's.\n\n")
	writeEntries(b, newDatabase("").table())
	b.WriteString("\n## Section [users.NAME]\n\nNAME is the user who logs in; for the pool's settings, the server user.\n\n")
	writeEntries(b, newUser("").table())

	b.WriteString("\n## Section [peers.ID]\n\nID is the peer_id of another process, from 1 to 65535. The entry of the process itself is ignored.\n\n")
	writeEntries(b, newPeer(0).table())
	return b.Flush()
}

func writeEntries(b *bufio.Writer, table []setting) {
	b.WriteString("| Key | Value | Default | Meaning |\n|---|---|---|---|\n")
	for _, s := range table {
		def := ""
		if v := s.get(); v != "" {
			def = code(v)
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", s.name, s.unit, def, s.doc)
	}
}

func code(value string) string {
	if value == "" {
		return "empty"
	}
	return "`" + value + "`"
}
