package frontend

import "github.com/pgvalet/pgvalet/backend"

// loginsCommand is about the logins of the pools to their servers.
func loginsCommand() consoleCommand {
	return consoleCommand{
		name: "SHOW LOGINS", rows: (*Console).showLogins, columns: columnsOf("database user outcome count:n last_time last_error"),
		help: "One row for each database, server user and outcome of logins to the server: `ok`, or the reason why they failed. " +
			"Time and text of the last failure stand in the row of its reason.",
	}
}

func (c *Console) showLogins() [][]any {
	var rows [][]any
	for _, i := range c.o.Pools.Logins() {
		rows = append(rows, []any{i.Database, i.User, "ok", i.Succeeded, "", ""})
		last := backend.Explain(i.Last).Reason
		for reason, n := range i.Failed {
			if n == 0 {
				continue
			}
			row := []any{i.Database, i.User, backend.Reason(reason).String(), n, "", ""}
			if backend.Reason(reason) == last {
				row[4], row[5] = instant(i.LastAt), i.Last.Error()
			}
			rows = append(rows, row)
		}
	}
	return rows
}
