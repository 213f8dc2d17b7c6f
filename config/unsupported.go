package config

// unsupported are the keys of PgBouncer that this version refuses.
var unsupported = []string{
	"application_name_add_host", "auth_dbname", "auth_hba_file", "auth_ident_file", "auth_ldap_options",
	"auth_query", "auth_user", "autodb_idle_timeout", "client_tls13_ciphers", "client_tls_ciphers",
	"client_tls_dheparams", "client_tls_ecdhcurve", "conffile", "disable_pqexec", "dns_max_ttl",
	"dns_nxdomain_ttl", "dns_zone_check_period", "job_name", "listen_backlog", "load_balance_hosts",
	"login_notify_message", "max_db_client_connections", "max_db_connections", "max_user_client_connections",
	"max_user_connections", "peer_id", "pkt_buf", "pool_idle_timeout", "reserve_pool", "reserve_pool_size",
	"reserve_pool_timeout", "resolv_conf", "sbuf_loopcnt", "server_fast_close", "server_round_robin",
	"server_tls13_ciphers", "server_tls_ciphers", "service_name", "so_reuseport", "suspend_timeout",
	"syslog", "syslog_facility", "syslog_ident", "tcp_defer_accept", "tcp_socket_buffer", "tcp_user_timeout",
}
