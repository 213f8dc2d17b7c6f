package config

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// pgbouncerSettings are the names in section [pgbouncer] of PgBouncer 1.25 and
// of what is to be 1.26.
var pgbouncerSettings = strings.Fields(`
admin_users application_name_add_host auth_dbname auth_file auth_hba_file auth_ident_file auth_ldap_options auth_query auth_type
auth_user autodb_idle_timeout cancel_wait_timeout client_idle_timeout client_login_timeout client_tls13_ciphers client_tls_ca_file
client_tls_cert_file client_tls_ciphers client_tls_dheparams client_tls_ecdhcurve client_tls_key_file client_tls_protocols
client_tls_sslmode conffile default_pool_size disable_pqexec dns_max_ttl dns_nxdomain_ttl dns_zone_check_period
idle_transaction_timeout ignore_startup_parameters job_name listen_addr listen_backlog listen_port log_connections
log_disconnections log_pooler_errors log_stats logfile login_notify_message max_client_conn max_db_client_connections
max_db_connections max_packet_size max_prepared_statements max_user_client_connections max_user_connections min_pool_size peer_id
pidfile pkt_buf pool_idle_timeout pool_mode query_timeout query_wait_notify query_wait_timeout reserve_pool_size
reserve_pool_timeout resolv_conf sbuf_loopcnt scram_iterations server_check_delay server_check_query server_connect_timeout
server_fast_close server_idle_timeout server_lifetime server_login_retry server_reset_query server_reset_query_always
server_round_robin server_tls13_ciphers server_tls_ca_file server_tls_cert_file server_tls_ciphers server_tls_key_file
server_tls_protocols server_tls_sslmode service_name so_reuseport stats_period stats_users suspend_timeout syslog syslog_facility
syslog_ident tcp_defer_accept tcp_keepalive tcp_keepcnt tcp_keepidle tcp_keepintvl tcp_socket_buffer tcp_user_timeout
track_extra_parameters transaction_timeout unix_socket_dir unix_socket_group unix_socket_mode user verbose`)

// pgbouncerEntries are the keys of PgBouncer's connection strings, by section.
var pgbouncerEntries = map[string][]string{
	"databases": strings.Fields(`dbname host port user password auth_user auth_query auth_dbname pool_size min_pool_size
		reserve_pool_size reserve_pool max_db_connections max_db_client_connections pool_mode server_lifetime query_wait_timeout
		load_balance_hosts connect_query client_encoding datestyle timezone application_name`),
	"users": strings.Fields(`pool_mode pool_size reserve_pool_size max_user_connections max_user_client_connections query_timeout
		query_wait_timeout idle_transaction_timeout transaction_timeout client_idle_timeout`),
	"peers": strings.Fields(`host port pool_size`),
}

// pgbouncerCommands are the commands of PgBouncer's console.
var pgbouncerCommands = strings.Split(`DISABLE,ENABLE,KILL,KILL_CLIENT,PAUSE,RECONNECT,RELOAD,RESUME,SET,SHUTDOWN,SUSPEND,WAIT_CLOSE,`+
	`SHOW ACTIVE_SOCKETS,SHOW CLIENTS,SHOW CONFIG,SHOW DATABASES,SHOW DNS_HOSTS,SHOW DNS_ZONES,SHOW FDS,SHOW HELP,SHOW LISTS,SHOW MEM,`+
	`SHOW PEERS,SHOW PEER_POOLS,SHOW POOLS,SHOW SERVERS,SHOW SOCKETS,SHOW STATE,SHOW STATS,SHOW STATS_AVERAGES,SHOW STATS_TOTALS,`+
	`SHOW TOTALS,SHOW USERS,SHOW VERSION`, ",")

// ownCommands are those that only pgvalet has.
var ownCommands = []string{"SHOW CREDENTIALS", "SHOW LOGINS", "SHOW TOKENS"}

// comparedCommands is compared for commands.
var comparedCommands = map[string]string{
	"PAUSE":        "better: undone when the one who waits for it leaves",
	"SET":          "different: what only a restart applies is an error; PgBouncer says that it has set it",
	"SUSPEND":      "different: clients can log in meanwhile; nothing is answered",
	"SHOW FDS":     "better: no passwords and keys; different: descriptors are shown, not handed over",
	"SHOW MEM":     "different: the memory of a Go program",
	"SHOW VERSION": "different: PgBouncer's version, and pgvalet's behind it",

	"SHOW CREDENTIALS": "pgvalet's own: where AWS credentials come from, and how long they live",
	"SHOW LOGINS":      "pgvalet's own: logins to servers, and why they failed",
	"SHOW TOKENS":      "pgvalet's own: the IAM tokens in use",
}

// compared is what is better than PgBouncer's or different, and how; settings and
// commands that are not here, and work, are the same. Those that PgBouncer does
// not have are all here.
var compared = map[string]string{
	"auth_file":              "better: a broken line refuses the whole file and is named, and a reload with one changes nothing",
	"query_wait_notify":      "better: fractions of a second",
	"stats_period":           "better: fractions of a second; different: at least 1",
	"scram_iterations":       "different: at least 1",
	"max_packet_size":        "different: at least 1024",
	"max_client_conn":        "different: at least 1",
	"peer_id":                "different: at most 16383, as PgBouncer's documentation says",
	"client_tls_protocols":   "different: the versions must be a range without a gap",
	"server_tls_protocols":   "different: the versions must be a range without a gap",
	"server_tls_ca_file":     "better: `system` stands for the authorities of the operating system",
	"track_extra_parameters": "better: values of any length, where PgBouncer forgets what is longer than 125 bytes",
	"load_balance_hosts":     "better: a login that fails goes on to the next host at once",
	"dns_max_ttl":            "better: servers at an address that a host name has lost are closed when they are free",
	"max_db_connections":     "better: a pool that is never idle does not starve the others",
	"max_user_connections":   "better: a pool that is never idle does not starve the others",
	"unix_socket_mode":       "different: at most 0777",
	"verbose":                "different: not negative",

	"max_db_client_connections":   "better: only clients that have proved who they are take a place",
	"max_user_client_connections": "better: only clients that have proved who they are take a place",

	"log_format":            "pgvalet's own: log lines as JSON",
	"event_loops":           "pgvalet's own: more than one core",
	"server_login_parallel": "pgvalet's own: PgBouncer logs in one at a time",
	"iam_login_rate":        "pgvalet's own: keeps below the limit of RDS",

	"server_auth":       "pgvalet's own: logins with tokens",
	"iam_region":        "pgvalet's own: logins with tokens",
	"iam_host":          "pgvalet's own: logins with tokens",
	"iam_port":          "pgvalet's own: logins with tokens",
	"iam_profile":       "pgvalet's own: logins with tokens",
	"passthrough_port":  "pgvalet's own: clients that are connected to the server itself",
	"passthrough_names": "pgvalet's own: clients that are connected to the server itself",
	"iam_role_arn":      "pgvalet's own: logins with tokens",
	"iam_external_id":   "pgvalet's own: logins with tokens",
	"iam_session_name":  "pgvalet's own: logins with tokens",
	"server_tls_name":   "pgvalet's own: the certificate's name, where host is an alias or a tunnel",
}

// The parts of docs/compatibility.md that are made from the tables stand between
// these lines.
const (
	generatedStart = "<!-- generated: go test ./config -update -->\n"
	generatedEnd   = "<!-- end -->\n"
)

// Compatibility returns the page docs/compatibility.md with its tables of
// settings and commands brought up to date. What the console can do is taken from
// its own page, docs/console.md.
func Compatibility(page, console []byte) ([]byte, error) {
	before, rest, ok := bytes.Cut(page, []byte(generatedStart))
	_, after, ok2 := bytes.Cut(rest, []byte(generatedEnd))
	if !ok || !ok2 {
		return nil, fmt.Errorf("the page has no lines %q and %q", generatedStart, generatedEnd)
	}
	var b bytes.Buffer
	b.Write(before)
	b.WriteString(generatedStart)
	writeCompared(&b)
	writeCommands(&b, console)
	b.WriteString(generatedEnd)
	b.Write(after)
	return b.Bytes(), nil
}

func writeCompared(b *bytes.Buffer) {
	var ours, theirs Settings
	reset(ours.table())
	resetINI(theirs.table())
	table, ini := ours.table(), theirs.table()
	order := make([]int, len(table))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int { return strings.Compare(table[i].name, table[j].name) })
	b.WriteString("\n## Section [pgbouncer], in TOML [pgvalet]\n\n| Setting | Default in .ini | in TOML | RELOAD | Compared with PgBouncer |\n|---|---|---|---|---|\n")
	for _, i := range order {
		s := table[i]
		reload := "yes"
		if s.restart {
			reload = "no"
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s | %s |\n", s.name, short(ini[i].get()), short(s.get()), reload, s.compared())
	}
	for _, e := range []struct {
		name  string
		table []setting
	}{
		{"databases", newDatabase("").table()}, {"users", newUser("").table()}, {"peers", newPeer(0).table()},
	} {
		fmt.Fprintf(b, "\n## Section [%s]\n\n| Key | Default | Compared with PgBouncer |\n|---|---|---|\n", e.name)
		for _, s := range e.table {
			fmt.Fprintf(b, "| `%s` | %s | %s |\n", s.name, short(s.get()), s.compared())
		}
	}
}

func (s setting) compared() string {
	if s.noEffect != "" {
		return "no effect: " + s.noEffect
	}
	return cmp.Or(compared[s.name], "same")
}

// short is code for a cell of a table.
func short(value string) string {
	if len(value) > 40 {
		value = value[:37] + "..."
	}
	return strings.ReplaceAll(code(value), "|", `\|`)
}

func writeCommands(b *bytes.Buffer, console []byte) {
	b.WriteString("\n## Console\n\n| Command | Compared with PgBouncer |\n|---|---|\n")
	for _, name := range slices.Concat(pgbouncerCommands, ownCommands) {
		how := "**not yet**"
		for row := range strings.Lines(string(console)) {
			if rest, ok := strings.CutPrefix(row, "| `"+name); !ok || rest[0] != '`' && rest[0] != ' ' {
				continue
			}
			how = cmp.Or(comparedCommands[name], "same")
		}
		fmt.Fprintf(b, "| `%s` | %s |\n", name, how)
	}
}
